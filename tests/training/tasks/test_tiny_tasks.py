"""Laws of the tasks that train the tiny preset: every network learns from every batch, and exports load
again.
"""

from dataclasses import replace

import pytest
import torch

from more4d.datasets.batch import ClipBatch, ViewBatch
from more4d.datasets.file_clips import FileClipOptions
from more4d.datasets.procedural import ProceduralClips
from more4d.datasets.view_pairs import FileViewOptions
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.strag import STraGConfig
from more4d.networks.tiny_trajectory import TinyTrajectoryConfig
from more4d.networks.tiny_video import TinyVideoConfig
from more4d.networks.vism import ViSMConfig
from more4d.networks.wan import WanConfig
from more4d.training.generator import FlowOptions, FlowSample, StartOptions
from more4d.training.run import task_type
from more4d.training.tasks.strag import STraGOptions, STraGTask, visible_tokens
from more4d.training.tasks.tiny_encoders import grounding_targets
from more4d.training.tasks.tiny_strag import TinySTraGOptions, TinySTraGTask
from more4d.training.tasks.tiny_trajectory import TinyTrajectoryOptions, TinyTrajectoryTask
from more4d.training.tasks.tiny_video import TinyVideoOptions, TinyVideoTask, TinyViSMOptions, TinyViSMTask
from more4d.training.tasks.vism import ViSMOptions, ViSMTask
from more4d.weights.load import inspect, load
from more4d.weights.lora.io import lora_style, read_lora
from more4d.weights.lora.merge import LoraOptions, merge_loras
from more4d.weights.state import read_tensors
from tests.datasets.clip_files import write_scenes
from tests.training.tasks.tiny_files import CLIPS, READER, VIEWS, WAN, losses


def test_strag_trains_all_but_the_motion_codec(tiny_strag, folder):
    task = TinySTraGTask(tiny_strag)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    losses(task, 3)
    changed = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith(("codec.encoder", "codec.decoder")) for name in changed)
    for part in ("codec.image_stem", "codec.depth_stem", "text_encoder", "strag.reader", "strag"):
        assert any(name.startswith(part) for name in changed), part
    for path in task.export(folder / "out", {}):
        load(inspect(path))


def test_stems_start_anew_only_if_asked(tiny_strag):
    kept, other = (TinySTraGTask(tiny_strag).codec.image_stem.state_dict() for _ in range(2))
    assert all(torch.equal(kept[name], other[name]) for name in kept)
    fresh = TinySTraGTask(replace(tiny_strag, fresh_stems=True)).codec.image_stem.state_dict()
    assert any(not torch.equal(kept[name], fresh[name]) for name in kept)


def test_things_that_stand_still_can_weigh_as_much_as_those_that_move(tiny_strag):
    task = TinySTraGTask(replace(tiny_strag, weigh_objects=True))
    data = task.dataset()
    batch = task.collate([data[0], data[1]])
    still = replace(batch, motion=torch.zeros_like(batch.motion))
    assert batch.objects.any()
    assert torch.equal(task.encode(still).moving, torch.nn.functional.max_pool2d(batch.objects, 8))
    assert not TinySTraGTask(tiny_strag).encode(still).moving.any()


def test_features_and_reader_stay_as_they_were(tiny_strag):
    task = TinySTraGTask(replace(tiny_strag, train_text_grounding=False))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    losses(task, 2)
    changed = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith(("motion_features", "strag.reader")) for name in changed)


def test_the_truth_stands_in_for_the_reader_where_there_is_a_caption(tiny_strag):
    task = TinySTraGTask(replace(tiny_strag, teacher_forcing_prob=1.0, train_text=False))
    data = task.dataset()
    batch = task.collate([data[0], data[1]])
    chance = torch.Generator().manual_seed(0)
    conditions = task.conditions(task.encode(batch), chance)
    conditions = replace(conditions, text=conditions.text * torch.tensor([1.0, 0.0])[:, None, None])
    told = task.extra_conditions(conditions, batch, chance).grounding_probs
    found = task.strag.ground_text(conditions)
    assert torch.equal(told[0], grounding_targets(batch.labels, found.shape[-2:])[0])
    assert torch.equal(told[1], found[1]) and not torch.equal(told[0], found[0])
    torch.nn.init.normal_(task.strag.transformer.proj_out.weight)  # a new network answers zero to all
    start = torch.randn(2, 16, 2, 4, 6)
    heard = [
        task.strag(start, torch.ones(2), replace(conditions, grounding_probs=said)) for said in (told, found)
    ]
    assert torch.equal(heard[1], task.strag(start, torch.ones(2), conditions))
    assert torch.equal(heard[0][1], heard[1][1]) and not torch.equal(heard[0][0], heard[1][0])


def test_clips_from_files_do_not_tell_the_truth(tiny_strag, tmp_path):
    with pytest.raises(ConfigError, match=r"options\.teacher_forcing_prob=0"):
        replace(tiny_strag, clips=FileClipOptions(folder=tmp_path), hint_weight=0.0, teacher_forcing_prob=0.5)
    with pytest.raises(ConfigError, match=r"\[0, 1\], got 2"):
        replace(tiny_strag, teacher_forcing_prob=2.0)


def test_a_reader_that_knows_nothing_must_learn(tiny_strag):
    with pytest.raises(ConfigError, match="is untrained"):
        TinySTraGTask(replace(tiny_strag, start=StartOptions(), train_text_grounding=False))


@pytest.mark.parametrize("train_text", [False, True])
def test_chance_does_not_decide_how_often_a_network_is_asked(folder, train_text):
    """Processes that share a network's weights must ask it equally often, or they wait for ever."""
    asked = {}
    for dropout in (0.0, 1.0):
        task = TinySTraGTask(
            TinySTraGOptions(
                network=STraGConfig(
                    wan=WanConfig(in_channels=76, motion_feature_dim=16, **WAN),
                    start_channels=0,
                    text_grounding=READER,
                ),
                motion_features_weights=folder / "motion_features.safetensors",
                codec=folder / "trajectory_codec.safetensors",
                text=folder / "text_encoder.safetensors",
                train_text=train_text,
                train_text_grounding=True,
                flow=FlowOptions(text_dropout=dropout, image_dropout=dropout, depth_dropout=dropout),
                data=CLIPS,
            )
        )
        count = asked[dropout] = []
        for module in task.modules():
            module.register_forward_hook(lambda module, *_, count=count: count.append(type(module)))
        task(task.collate([task.dataset()[0]]), torch.Generator().manual_seed(0))
    assert asked[0.0] == asked[1.0]


def test_clips_weigh_as_much_as_is_seen_of_them():
    clip = ProceduralClips(CLIPS, seed=0)[0]
    seen = ClipBatch(**{**vars(clip), "weight": torch.ones_like(clip.weight)})
    assert visible_tokens(seen).shape == (1, 1, 2, 4, 6)
    assert (visible_tokens(seen) == 1).all()
    hidden = seen.weight.clone()
    hidden[..., -1, :8, :4] = 0  # half of a cell, in the last frame
    cells = visible_tokens(ClipBatch(**{**vars(clip), "weight": hidden}))
    assert cells[0, 0, 1, 0, 0] == 0.5 and float(cells.sum()) == 47.5


def test_a_video_codec_goes_on_and_may_look_behind(folder):
    network = TinyVideoConfig(width=16, fine_width=16, blocks=1, background_fill=True)
    options = TinyVideoOptions(network=network, data=VIEWS, weights=folder / "video_codec.safetensors")
    task = TinyVideoTask(options)
    given = load(inspect(options.weights)).state_dict()
    assert all(torch.equal(value, given[name]) for name, value in task.codec.state_dict().items())
    losses(task, 1)
    (path,) = task.export(folder / "out", {})
    assert load(inspect(path)).config == network
    with pytest.raises(ConfigError, match="not the network"):
        TinyVideoTask(replace(options, network=replace(network, width=32)))


def test_vism_trains_itself_only(folder):
    options = ViSMOptions(
        network=ViSMConfig(wan=WanConfig(in_channels=36, **WAN)),
        codec=folder / "video_codec.safetensors",
        text=folder / "text_encoder.safetensors",
        data=VIEWS,
    )
    task = ViSMTask(options)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    losses(task)
    changed = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert changed
    assert all(name.startswith("vism.") for name in changed)
    for path in task.export(folder / "out", {}):
        load(inspect(path))


@pytest.fixture
def trained_vism(folder):
    options = ViSMOptions(
        network=ViSMConfig(wan=WanConfig(in_channels=36, **WAN)),
        codec=folder / "video_codec.safetensors",
        text=folder / "text_encoder.safetensors",
        data=VIEWS,
    )
    ViSMTask(options).export(folder, {})
    return replace(options, start=StartOptions(weights=folder / "vism.safetensors"))


def test_a_lora_of_vism_trains_only_its_updates_and_merges_into_the_weights_it_started_from(
    trained_vism, folder
):
    options = replace(trained_vism, start=replace(trained_vism.start, lora=LoraOptions(rank=2, alpha=2.0)))
    task = ViSMTask(options)
    losses(task, 3)
    (path,) = task.export(folder / "out", {})
    assert path.name == "vism_lora.safetensors"
    plain = load(inspect(folder / "vism.safetensors"))
    before = {name: p.clone() for name, p in plain.named_parameters()}
    merge_loras(plain, [(read_lora(path), 1.0)])
    changed = {name for name, p in plain.named_parameters() if not torch.equal(p, before[name])}
    assert changed and all(name.endswith("weight") for name in changed)


def test_training_goes_on_from_weights_and_refuses_those_of_another_network(trained_vism, folder):
    task = ViSMTask(trained_vism)
    stored = load(inspect(folder / "vism.safetensors")).state_dict()
    assert all(torch.equal(value, stored[name]) for name, value in task.vism.state_dict().items())
    wider = ViSMConfig(wan=WanConfig(in_channels=36, **{**WAN, "layers": 2}))
    with pytest.raises(ConfigError, match=r"not the network that .*vism\.safetensors holds"):
        ViSMTask(replace(trained_vism, network=wider))


def test_vism_and_the_decoder_after_it_learn_together_and_latents_stay_as_they_were(trained_vism, folder):
    given = {name: getattr(trained_vism, name) for name in ("codec", "text", "data", "start")}
    task = TinyViSMTask(TinyViSMOptions(**given))
    before = {name: value.clone() for name, value in task.state_dict().items()}
    losses(task)
    changed = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in changed} == {"vism", "codec"}
    assert all(name.startswith(("vism.", "codec.decoder.")) for name in changed)
    exported = task.export(folder / "out", {})
    assert [path.name for path in exported] == ["video_codec.safetensors", "vism.safetensors"]
    for path in exported:
        load(inspect(path))
    with pytest.raises(ConfigError, match="use task: vism"):
        TinyViSMOptions(**given, cache=folder)


def test_the_loss_on_holes_is_their_psnr(trained_vism):
    """A tenth of it, with the opposite sign, whatever is shown where the video is known."""
    given = {name: getattr(trained_vism, name) for name in ("codec", "text", "data", "start")}
    task = TinyViSMTask(TinyViSMOptions(**given, least_error=0.0))
    batch = task.collate([task.dataset()[0], task.dataset()[1]])
    decoded = torch.where(batch.coverage > 0, batch.truth + 1, batch.truth + 0.2)
    task.codec.decode_video = lambda *_: decoded
    start = FlowSample(torch.zeros(2, 1, 1, 1, 1), torch.ones(2), torch.zeros(2, 1, 1, 1, 1))
    found = task.auxiliary_losses(start, start.noisy, batch)
    # 0.2 in [-1, 1] is 0.1 in [0, 1]: 20 dB
    torch.testing.assert_close(found["holes_db"], torch.tensor(20.0))
    torch.testing.assert_close(found["auxiliary"], torch.tensor(-2.0))


def test_a_lora_of_nothing_is_refused(trained_vism):
    with pytest.raises(ConfigError, match=r"set options\.start\.weights"):
        ViSMTask(replace(trained_vism, start=StartOptions(lora=LoraOptions(rank=2))))


@pytest.fixture
def trained_strag(folder):
    """Options of the task, with everything it needs in files."""
    options = TinySTraGOptions(
        network=STraGConfig(
            wan=WanConfig(in_channels=76, motion_feature_dim=16, **WAN),
            start_channels=0,
            text_grounding=READER,
        ),
        motion_features_weights=folder / "motion_features.safetensors",
        codec=folder / "trajectory_codec.safetensors",
        text=folder / "text_encoder.safetensors",
        start=StartOptions(text_grounding=folder / "prompt_reader.safetensors"),
        data=CLIPS,
        decoded_clips=1,
    )
    TinySTraGTask(options).export(folder, {})
    return STraGOptions(
        network=options.network,
        codec=options.codec,
        text=options.text,
        motion_features_weights=folder / "motion_features.safetensors",
        start=StartOptions(weights=folder / "strag.safetensors"),
        data=CLIPS,
    )


def test_strag_trains_the_generator_only(trained_strag):
    task = STraGTask(trained_strag)
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("strag.") for name in trained)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    losses(task)
    changed = {name for name, value in task.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and changed <= trained


def test_a_lora_of_strag_trains_only_its_updates(trained_strag, folder):
    start = replace(trained_strag.start, lora=LoraOptions(rank=2, alpha=1.0, style="peft"))
    task = STraGTask(replace(trained_strag, start=start))
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert trained and all(name.startswith("strag.") and "lora_" in name for name in trained)
    losses(task, 2)
    (path,) = task.export(folder / "out", {})
    assert lora_style(read_tensors(path)) == "peft"
    merge_loras(load(inspect(folder / "strag.safetensors")), [(read_lora(path), 1.0)])


def test_recomputed_blocks_learn_the_same(trained_strag):
    slopes = []
    for again in (False, True):
        task = STraGTask(replace(trained_strag, gradient_checkpointing=again))
        data = task.dataset()
        task(task.collate([data[0], data[1]]), torch.Generator().manual_seed(0))["loss"].backward()
        slopes.append({name: p.grad for name, p in task.named_parameters() if p.grad is not None})
    assert slopes[0].keys() == slopes[1].keys()
    for name, slope in slopes[0].items():
        torch.testing.assert_close(slopes[1][name], slope)


def test_padding_frames_and_dropped_pictures_do_not_count(trained_strag):
    task = STraGTask(trained_strag)
    clip = task.dataset()[0]
    weight = clip.weight.clone()
    weight[:, :, 1:] = 0  # all later frames only pad
    padded = ClipBatch(**{**vars(clip), "weight": weight})
    wild = ClipBatch(**{**vars(padded), "motion": padded.motion * 3})
    latents = task.encode(wild)
    assert float(latents.weight[:, :, 1:].sum()) == 0
    dropped = replace(trained_strag.flow, image_dropout=1.0, depth_dropout=1.0)
    bare = STraGTask(replace(trained_strag, flow=dropped))
    conditions = bare.conditions(latents, torch.Generator())
    assert float(conditions.image_latents.detach().abs().sum()) == 0
    assert float(conditions.depth_latents.detach().abs().sum()) == 0


def test_a_codec_of_the_wrong_kind_is_refused(trained_vism, folder):
    with pytest.raises(WeightsError, match="tiny-trajectory-codec"):
        ViSMTask(replace(trained_vism, codec=folder / "trajectory_codec.safetensors"))


def test_batches_of_views_are_joined_in_order():
    views = TinyVideoTask(TinyVideoOptions(data=VIEWS)).dataset()
    joined = ViewBatch.collate([views[0], views[1]])
    assert torch.equal(joined.truth[1:], views[1].truth)


def test_an_unknown_task_lists_those_there_are():
    with pytest.raises(ConfigError, match="strag"):
        task_type("poetry")


def test_every_task_trains_on_clips_from_files(folder, trained_strag, trained_vism, tmp_path):
    write_scenes(tmp_path, [(32, 48), (36, 48), (34, 50)], frames=5)
    cut = {"folder": tmp_path, "shapes": ((32, 48),), "group": 2, "frames": 5}
    small = TinyTrajectoryConfig(width=32, guide_width=16, stem_width=32)
    clips = FileClipOptions(**cut)
    codec = TinyTrajectoryOptions(network=small, clips=clips, statistics_clips=2)
    for task in (
        TinyTrajectoryTask(codec),
        STraGTask(replace(trained_strag, clips=clips)),
        ViSMTask(replace(trained_vism, clips=FileViewOptions(**cut))),
    ):
        losses(task, 2)
        task.export(tmp_path / "out", {})


def test_hints_on_objects_are_refused_where_nobody_knows_them(folder, tmp_path):
    with pytest.raises(ConfigError, match="hint_weight=0"):
        TinySTraGOptions(
            network=STraGConfig(wan=WanConfig(in_channels=48, **WAN), start_channels=0),
            motion_features_weights=folder / "motion_features.safetensors",
            codec=folder / "trajectory_codec.safetensors",
            text=folder / "text_encoder.safetensors",
            clips=FileClipOptions(folder=tmp_path),
        )
