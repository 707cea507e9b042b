"""Former names of stored configuration keys and values: weight files, presets and run folders keep both readable.

Names were brought in line with the field's terms (docs/glossary.md). Files written before that hold the former
ones. They are translated when a mapping is read; what is written has the current names only.
"""

from typing import Any

# class of the configuration -> {former key: current key}
KEYS: dict[str, dict[str, str]] = {
    "WanConfig": {"guidance_alignment": "motion_token_alignment"},
    "ViSMConfig": {"behind": "background_fill"},
    "TinyVideoConfig": {"behind": "background_fill"},
    "STraGConfig": {"reader": "text_grounding"},
    "TextGroundingConfig": {"comparisons": "self_attention_blocks", "sharpness": "inverse_temperature"},
    "StepCacheConfig": {"first": "warmup_steps"},
    "Preset": {"parts": "components"},
    "Sampling": {"guidance_passes": "batched_cfg"},
    "TinySTraGOptions": {"told_truth": "teacher_forcing_prob", "train_reader": "train_text_grounding"},
    "TinyFeaturesOptions": {"reader": "text_grounding", "start_reader": "start_text_grounding"},
    "StartOptions": {"reader": "text_grounding"},
    "LoopConfig": {"rates": "lr_multipliers"},
    "TinyVideoOptions": {"unknown": "hide_known_prob"},
    "ProceduralOptions": {
        "stories": "captions_per_scene",
        "crowded": "multi_object_prob",
        "closer": "photo_scale",
    },
    "LabelledImageOptions": {
        "stories": "captions_per_scene",
        "visits": "repeats",
        "crowded": "multi_object_prob",
        "tightest": "min_crop",
        "disturbed": "degrade_prob",
    },
    "DepthData": {
        "visits": "repeats",
        "tightest": "min_crop",
        "repaint": "recolour_prob",
        "studio": "plain_backdrop_prob",
        "interiors": "interior_prob",
    },
    "FileClipOptions": {"tightest": "min_crop"},
    "FileViewOptions": {"tightest": "min_crop", "given": "stored_rendering_prob"},
    "Bounds": {
        "most_alike": "max_ssim",
        "least_alike": "min_ssim",
        "darkest": "min_brightness",
        "least_contrast": "min_contrast",
        "least_sharpness": "min_sharpness",
        "farthest_m": "max_median_depth_m",
        "least_depth_range": "min_depth_range",
        "most_flicker": "max_depth_flicker",
        "least_coherent": "min_coherent",
        "least_visible": "min_visible",
        "least_motion": "min_motion",
        "most_motion": "max_motion",
        "least_agreement": "min_camera_agreement",
        "most_camera_shift": "max_camera_shift",
    },
}

# class -> {former key: the only value that is still read}, of what has gone: files that used it are refused
REMOVED: dict[str, dict[str, Any]] = {"WanConfig": {"control_adapter": False}}

# (class, current key) -> {former value: current value}
VALUES: dict[tuple[str, str], dict[Any, Any]] = {
    ("WanConfig", "motion_token_alignment"): {"front": "aligned", "published": "moge4d"},
    ("Sampling", "schedule"): {"published": "reference"},
    ("Sampling", "batched_cfg"): {"one": True, "two": False},
}

_ANY_CLASS = {former: current for keys in KEYS.values() for former, current in keys.items()}


def with_current_names(cls: type, values: dict[str, Any]) -> dict[str, Any]:
    """`values` of a stored configuration of class `cls`, under its current keys; nested mappings as they are."""
    keys, removed = KEYS.get(cls.__name__, {}), REMOVED.get(cls.__name__, {})
    renamed = {}
    for former, value in values.items():
        if former in removed and value == removed[former]:
            continue
        key = keys.get(former, former)
        choices = VALUES.get((cls.__name__, key), {})
        renamed[key] = choices.get(value, value) if isinstance(value, str) else value
    return renamed


def with_current_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Flat settings by dotted path ("options.data.stories"), each step of the path under its current name."""
    return {
        ".".join(_ANY_CLASS.get(step, step) for step in path.split(".")): settings[path] for path in settings
    }


def with_current_steps(settings: dict[str, Any]) -> dict[str, Any]:
    """Nested settings whose classes are not at hand, every key under its current name."""
    return {
        _ANY_CLASS.get(key, key): with_current_steps(value) if isinstance(value, dict) else value
        for key, value in settings.items()
    }
