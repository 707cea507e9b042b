"""Laws of training the trajectory codec in its published shape."""

import gc
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from more4d.datasets.batch import ClipBatch
from more4d.datasets.procedural import ProceduralOptions
from more4d.foundation.config import from_mapping, load_config
from more4d.foundation.errors import ConfigError, WeightsError
from more4d.networks.trajectory_vae import WanTrajectoryVae, WanTrajectoryVaeConfig
from more4d.networks.video_vae import WanVideoVae, WanVideoVaeConfig
from more4d.pipelines.codec_check import compare, through_codec
from more4d.pipelines.components import Components
from more4d.scenes.render import render_clip
from more4d.scenes.scene_sampling import sample_scene
from more4d.training.config import LoopConfig, TrainConfig
from more4d.training.optim import build_optimiser
from more4d.training.run import task_type
from more4d.training.tasks.trajectory_vae import (
    CodecStart,
    TrajectoryVaeOptions,
    TrajectoryVaeTask,
    kl_divergence,
    latent_cells,
    weighted_distance,
    weighted_mean,
)
from more4d.weights.load import inspect, load
from more4d.weights.state import save_network
from tests.presets import write_random_preset

ROOT = Path(__file__).resolve().parents[3]
NETWORK = WanTrajectoryVaeConfig(
    video=WanVideoVaeConfig(base_dim=4, dim_mult=(1, 1, 2, 2), residual_blocks=1), adapter_width=32
)
ALL = TrajectoryVaeOptions(
    network=NETWORK,
    train="all",
    data=ProceduralOptions(shapes=((16, 24),), group=1, frames=5, hidden_weight=0.0),
    statistics_clips=2,
    check_clips=1,
)


def task_of(options: TrajectoryVaeOptions = ALL) -> TrajectoryVaeTask:
    torch.manual_seed(0)
    return TrajectoryVaeTask(options).train()


def clips(frames: int = 5, height: int = 16, width: int = 16) -> ClipBatch:
    """A bar that goes right, and one that goes left."""
    motion = torch.zeros(2, 3, frames, height, width)
    path = torch.linspace(0, 0.3, frames)[:, None, None]
    motion[0, 0, :, 4:12, 4:8] = path
    motion[1, 0, :, 4:12, 8:12] = -path
    return ClipBatch(
        image=torch.zeros(2, 3, height, width),
        depth_m=torch.ones(2, 1, height, width),
        motion=motion,
        weight=torch.ones(2, 1, frames, height, width),
        objects=torch.zeros(2, 1, height, width),
        captions=("right", "left"),
    )


def noise(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def without_noise(task: TrajectoryVaeTask) -> None:
    """Make posteriors so narrow that drawing from them takes the mean."""
    with torch.no_grad():
        task.codec.video.vae.quant_conv.bias[16:] -= 100


@pytest.fixture
def video_vae(tmp_path: Path) -> Path:
    torch.manual_seed(1)
    path = tmp_path / "video.safetensors"
    save_network(path, WanVideoVae(NETWORK.video), architecture="wan-video-vae", config=NETWORK.video)
    return path


@pytest.fixture
def published(video_vae: Path) -> TrajectoryVaeTask:
    """The published choice: the encoder of the VAE stays as it is."""
    return task_of(replace(ALL, train="decoder", start=CodecStart(weights=video_vae)))


def test_the_encoder_adapter_learns_through_the_frozen_encoder(published):
    published(clips(), noise())["loss"].backward()
    adapter = published.codec.encoder_adapter
    assert adapter.conv_out.weight.grad.abs().max() > 0
    for part in ("encoder", "quant_conv", "post_quant_conv"):
        for parameter in getattr(published.codec.video.vae, part).parameters():
            assert parameter.grad is None and not parameter.requires_grad


def test_the_kl_term_is_no_constant_although_the_encoder_is_frozen(published):
    published(clips(), noise())["kl"].backward()
    assert published.codec.encoder_adapter.conv_out.weight.grad.abs().max() > 0


@pytest.mark.parametrize("train", ["adapters", "decoder", "all"])
@pytest.mark.parametrize("recompute", [False, True])
def test_exactly_what_is_trained_gets_a_gradient_and_is_in_the_optimiser(video_vae, train, recompute):
    start = CodecStart(weights=video_vae)
    task = task_of(replace(ALL, train=train, start=start, gradient_checkpointing=recompute))
    task(clips(), noise())["loss"].backward()
    with_gradient = {name for name, p in task.named_parameters() if p.grad is not None}
    trained = {name for name, p in task.named_parameters() if p.requires_grad}
    assert with_gradient == trained
    optimiser = build_optimiser(task, LoopConfig(steps=1))
    optimised = {id(p) for group in optimiser.param_groups for p in group["params"]}
    assert optimised == {id(p) for p in task.parameters() if p.requires_grad}
    parts = {".".join(name.split(".")[1:4]) for name in trained if ".video." in name}
    everything = {f"video.vae.{part}" for part in ("encoder", "decoder", "quant_conv", "post_quant_conv")}
    assert parts == {"adapters": set(), "decoder": {"video.vae.decoder"}, "all": everything}[train]


def test_the_loss_on_a_late_frame_has_a_gradient_in_early_motion(published):
    batch = clips(frames=9)
    late = torch.zeros_like(batch.weight)
    late[:, :, 8] = 1
    motion = batch.motion.clone().requires_grad_()
    published(replace(batch, motion=motion, weight=late), noise())["l1"].backward()
    # what the motion of frame 1 does to the target is nothing: all of this came through the codec, in time
    assert motion.grad[:, :, 1].abs().max() > 0


def test_pictures_beyond_the_range_of_the_vae_still_have_a_gradient():
    task = task_of()
    decoder = task.codec.video.vae.decoder
    with torch.no_grad():
        decoder.conv_out.bias += 5  # every value lies beyond 1, where a clamp would be flat
    task(clips(), noise())["loss"].backward()
    assert decoder.conv_in.weight.grad.abs().max() > 0


def test_frames_that_pad_a_clip_change_neither_loss_nor_error():
    task, whole = task_of(replace(ALL, difference_weight=0.5)), clips(frames=5)
    last = whole.motion[:, :, -1:]
    padded = replace(
        whole,
        motion=torch.cat([whole.motion, last.expand(-1, -1, 4, -1, -1)], 2),
        weight=torch.cat([whole.weight, torch.zeros(2, 1, 4, 16, 16)], 2),
    )
    torch.testing.assert_close(task(padded, noise())["kl"], task(whole, noise())["kl"], rtol=1e-5, atol=0)
    without_noise(task)  # a longer clip draws other noise
    plain, longer = task(whole, noise()), task(padded, noise())
    for name, value in plain.items():
        torch.testing.assert_close(longer[name], value, rtol=1e-4, atol=1e-6)
    counted = replace(padded, weight=torch.ones_like(padded.weight))
    assert not torch.isclose(task(counted, noise())["loss"], plain["loss"], rtol=1e-3)


def test_hidden_points_are_no_part_of_the_target():
    decoded, truth = torch.rand(2, 2, 3, 5, 16, 16).unbind(0)
    weight = (torch.rand(2, 1, 5, 16, 16) > 0.3).float()
    before = weighted_distance(decoded, truth, weight, "l1")
    elsewhere = torch.where(weight > 0, truth, 100.0)
    torch.testing.assert_close(weighted_distance(decoded, elsewhere, weight, "l1"), before)
    assert weighted_distance(decoded, truth, torch.zeros_like(weight), "l1") == 0


def test_the_terms_of_the_loss_do_not_depend_on_resolution_or_length():
    decoded, truth = torch.rand(2, 1, 3, 5, 8, 8).unbind(0)
    weight = torch.rand(1, 1, 5, 8, 8)
    mean, log_variance = torch.randn(2, 1, 16, 2, 2, 3).unbind(0)

    def tiled(values: Tensor) -> Tensor:
        return values.repeat(1, 1, 2, 3, 4)

    for kind in ("l1", "l2"):
        small = weighted_distance(decoded, truth, weight, kind)
        large = weighted_distance(tiled(decoded), tiled(truth), tiled(weight), kind)
        torch.testing.assert_close(large, small)
    cells = torch.ones(1, 1, 2, 2, 3)
    torch.testing.assert_close(
        weighted_mean(tiled(kl_divergence(mean, log_variance)), tiled(cells)),
        weighted_mean(kl_divergence(mean, log_variance), cells),
    )


def test_divergence_is_that_of_torch():
    mean, log_variance = torch.randn(2, 1, 16, 2, 2, 3, generator=noise()).unbind(0)
    posterior = torch.distributions.Normal(mean, (log_variance / 2).exp())
    expected = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl_divergence(mean, log_variance), expected)


def test_a_latent_cell_counts_if_one_of_its_points_does():
    weight = torch.zeros(1, 1, 9, 16, 24)
    weight[0, 0, 0, 3, 3] = weight[0, 0, 4, 8, 23] = weight[0, 0, 5, 15, 8] = 0.1
    expected = torch.zeros(1, 1, 3, 2, 3)
    expected[0, 0, 0, 0, 0] = expected[0, 0, 1, 1, 2] = expected[0, 0, 2, 1, 1] = 1
    assert torch.equal(latent_cells(weight), expected)


def test_the_sample_in_training_is_that_of_encoding(published):
    batch, seen = clips(), []
    decode = published.codec.decode_motion
    published.codec.decode_motion = lambda latents, *guides: seen.append(latents) or decode(latents, *guides)
    published(batch, noise(3))
    drawn = torch.randn(2, 16, 2, 2, 2, generator=noise(3))
    with torch.no_grad():
        torch.testing.assert_close(seen[0].detach(), published.codec.encode_motion(batch.motion, drawn))


def test_motion_far_below_a_pixel_is_not_rounded_away_in_half_precision():
    codec = task_of().codec.to(torch.bfloat16)
    motion = torch.full((1, 3, 1, 8, 8), 1e-3)
    with torch.no_grad():
        image = codec.motion_image(motion)
    torch.testing.assert_close(image, torch.tanh(motion / 2), rtol=1e-3, atol=0)


def storages() -> dict[int, int]:
    """Bytes of every tensor that Python holds."""
    held = [thing.untyped_storage() for thing in gc.get_objects() if type(thing) is Tensor]
    return {storage.data_ptr(): storage.nbytes() for storage in held}


def run_once(recompute: bool) -> tuple[list[Tensor], int]:
    """Gradients of one step, and the bytes it holds between forward and backward: what autograd saved, and
    what recomputing begins from.
    """
    task, batch = task_of(replace(ALL, gradient_checkpointing=recompute)), clips(frames=9)
    before, saved = storages(), {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = task(batch, noise())["loss"]
    held = {place: size for place, size in (saved | storages()).items() if place not in before}
    loss.backward()
    return [p.grad for p in task.parameters() if p.grad is not None], sum(held.values())


def test_recomputing_keeps_the_gradients_and_less_memory():
    (plain, much), (recomputed, little) = run_once(False), run_once(True)
    for one, other in zip(plain, recomputed, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    assert little < much / 10


def test_two_motions_are_learned_and_told_apart():
    task = task_of(replace(ALL, moving_weight=5.0))
    optimiser = torch.optim.Adam(task.parameters(), lr=4e-3)
    batch, errors = clips(), []
    for step in range(80):
        metrics = task(batch, noise(step))
        metrics["loss"].backward()
        optimiser.step()
        optimiser.zero_grad()
        errors.append((float(metrics["loss"].detach()), float(metrics["moving_px"])))
    true_px = 16 * 0.3 * 0.625  # the mean over frames 1 to 4: the error of saying that nothing moves
    assert errors[-1][1] < true_px / 3
    assert errors[-1][0] < errors[0][0] / 4


def test_an_exported_codec_is_that_part_of_a_preset_and_is_checked_like_any_other(tmp_path):
    folder = tmp_path / "preset"
    folder.mkdir()
    write_random_preset(folder, "wan")
    task = task_of()
    (path,) = task.export(folder, {"steps": "0"})
    assert path == folder / "trajectory_codec.safetensors"
    header = inspect(path)
    assert header.architecture == "wan-trajectory-vae" and "held_out_error" in header.notes
    loaded = load(inspect(path))
    for name, value in task.codec.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    models = Components.from_pretrained(folder)
    assert isinstance(models.network("trajectory_codec"), WanTrajectoryVae)
    original = render_clip(sample_scene(3), height=32, width=48, frames=5).tracks
    report = compare(original, through_codec(models, original))
    assert math.isfinite(report.moving_error_px) and math.isfinite(report.moving_error_m)


class FewClips(TrajectoryVaeTask):
    """Two clips of our own, again and again."""

    batch = clips()

    def dataset(self) -> list[ClipBatch]:
        told = {name: value for name, value in vars(self.batch).items() if value is not None}
        return [ClipBatch(**{n: v[i : i + 1] for n, v in told.items()}) for i in range(2)]


@pytest.mark.parametrize("scale", ["moving", "all"])
def test_latents_of_training_clips_are_normalised_by_the_measured_statistics(scale):
    torch.manual_seed(0)
    task = FewClips(replace(ALL, statistics_scale=scale))
    task.measure_statistics()
    codec, batch = task.codec, FewClips.batch
    with torch.no_grad():
        mean, log_variance = codec.posterior(batch.motion)
    latents = codec.normalised(mean)
    deviation = (codec.video.statistics.std * codec.trajectory_statistics.std).view(-1, 1, 1, 1)
    square = latents.square() + log_variance.exp() / deviation.square()
    moved = (batch.motion.norm(dim=1, keepdim=True) * 16 > 0.5).float()
    cells = latent_cells(moved if scale == "moving" else torch.ones_like(moved))
    chosen = cells.flatten().bool()
    assert chosen.all() == (scale == "all")
    by_channel = [values.transpose(0, 1).flatten(1) for values in (latents, square)]
    torch.testing.assert_close(by_channel[0].mean(1), torch.zeros(16), rtol=0, atol=1e-4)
    torch.testing.assert_close(by_channel[1][:, chosen].mean(1), torch.ones(16), rtol=1e-3, atol=0)


def test_clips_without_motion_have_no_scale():
    class Still(FewClips):
        batch = replace(clips(), motion=torch.zeros(2, 3, 5, 16, 16))

    with pytest.raises(ConfigError, match="statistics_scale=all"):
        Still(ALL).measure_statistics()


def test_training_starts_from_a_codec_or_from_a_video_vae_alone(published, video_vae, tmp_path):
    stored = load(inspect(video_vae)).state_dict()
    for name, value in published.codec.video.state_dict().items():
        assert torch.equal(value, stored[name]), name
    path = tmp_path / "codec.safetensors"
    first = task_of()
    save_network(path, first.codec, architecture="wan-trajectory-vae", config=NETWORK)
    torch.manual_seed(9)
    second = TrajectoryVaeTask(replace(ALL, train="adapters", start=CodecStart(weights=path)))
    for name, value in second.codec.state_dict().items():
        assert torch.equal(value, first.codec.state_dict()[name]), name


def test_a_start_that_does_not_fit_is_one_line(video_vae, tmp_path):
    wider = WanTrajectoryVaeConfig(video=replace(NETWORK.video, base_dim=8), adapter_width=32)
    start = CodecStart(weights=video_vae)
    with pytest.raises(ConfigError, match="not the network that") as error:
        TrajectoryVaeTask(replace(ALL, network=wider, start=start))
    assert "\n" not in str(error.value)
    for missing in ("Wan2.1_VAE.pth", "video_vae.safetensors"):
        with pytest.raises(WeightsError, match=missing):
            TrajectoryVaeTask(replace(ALL, start=CodecStart(weights=tmp_path / missing)))


def test_freezing_an_encoder_that_nothing_trained_is_refused():
    with pytest.raises(ConfigError, match=r"options\.start\.weights"):
        replace(ALL, train="decoder")


def test_training_starts_from_the_published_files(shared, tmp_path):
    """The layout of Wan2.1_VAE.pth, with the tiny random weights of the conformance data."""
    tensors = load_file(shared / "conformance" / "wan_vae_a.safetensors")
    weights = {n.removeprefix("weights."): t for n, t in tensors.items() if n.startswith("weights.")}
    torch.save(weights, tmp_path / "Wan2.1_VAE.pth")
    network = WanTrajectoryVaeConfig(video=WanVideoVaeConfig(base_dim=6), adapter_width=32)
    start = CodecStart(weights=tmp_path / "Wan2.1_VAE.pth")
    task = task_of(replace(ALL, network=network, train="decoder", start=start))
    assert math.isfinite(float(task(clips(), noise())["loss"].detach()))


@pytest.mark.parametrize("name", ["wan/trajectory_vae.yaml", "tiny/wan_trajectory_vae.yaml"])
def test_bundled_configurations_fit_the_task(name, video_vae):
    config = load_config(TrainConfig, ROOT / "config" / name, [])
    assert task_type(config.task) is TrajectoryVaeTask
    options = from_mapping(TrajectoryVaeOptions, config.options)
    small = replace(options, network=NETWORK)
    if options.start.weights is not None:
        small = replace(small, start=CodecStart(weights=video_vae))
    optimiser = build_optimiser(TrajectoryVaeTask(small), config.loop)
    rates = {group["rate"] for group in optimiser.param_groups}
    assert rates == ({1.0, 0.1} if options.train == "decoder" else {1.0})
