from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from more4d.files.network_file import half_precision, load_state, read_network_file, write_network_file
from more4d.foundation.errors import WeightsError


def a_network(width: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, width), nn.BatchNorm1d(width))


def written(folder: Path) -> Path:
    path = folder / "nested" / "net.safetensors"
    write_network_file(
        path, a_network().state_dict(), architecture="toy", config={"width": 3}, notes={"steps": "7"}
    )
    return path


def test_read_returns_what_was_written(tmp_path: Path) -> None:
    file = read_network_file(written(tmp_path), architecture="toy")
    assert (file.architecture, file.config, file.notes) == ("toy", {"width": 3}, {"steps": "7"})
    state = a_network().state_dict()
    assert file.tensors.keys() == state.keys()
    assert all(torch.equal(file.tensors[name], state[name]) for name in state)


def test_writing_leaves_no_other_file(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert list(path.parent.iterdir()) == [path]


def test_a_network_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    with pytest.raises(ValueError, match="'a' is not finite"):
        write_network_file(path, {"a": torch.tensor([1.0, torch.nan])}, architecture="toy", config={})
    assert not path.exists()


def test_tied_tensors_survive(tmp_path: Path) -> None:
    weight = torch.arange(4.0)
    write_network_file(tmp_path / "t.safetensors", {"a": weight, "b": weight}, architecture="toy", config={})
    tensors = read_network_file(tmp_path / "t.safetensors").tensors
    assert torch.equal(tensors["a"], weight) and torch.equal(tensors["b"], weight)


def test_unusable_files_are_refused_in_one_line(tmp_path: Path) -> None:
    good = written(tmp_path)
    truncated, text, foreign = tmp_path / "cut", tmp_path / "text", tmp_path / "foreign"
    truncated.write_bytes(good.read_bytes()[:-5])
    text.write_text("these are not weights, whatever the name says")
    safetensors.torch.save_file({"a": torch.ones(2)}, foreign)
    cases = [
        (tmp_path / "nowhere", "no weights"),
        (truncated, "truncated"),
        (text, "truncated"),
        (foreign, "not one"),
    ]
    for path, reason in cases:
        with pytest.raises(WeightsError, match=reason) as caught:
            read_network_file(path, architecture="toy")
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds a 'toy' network where 'depth' is needed"):
        read_network_file(written(tmp_path), architecture="depth")


def test_half_precision_halves_and_loads_back(tmp_path: Path) -> None:
    source, target = a_network(), a_network()
    with torch.no_grad():
        source[0].weight.mul_(2)
    write_network_file(tmp_path / "n", half_precision(source.state_dict()), architecture="toy", config={})
    load_state(target, read_network_file(tmp_path / "n").tensors, source="n")
    assert target[0].weight.dtype == torch.float32
    torch.testing.assert_close(target[0].weight, source[0].weight, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda state: state.pop("0.bias"), "1 missing \\(0.bias"),
        (lambda state: state.update(extra=torch.ones(1)), "1 unexpected \\(extra"),
        (lambda state: state.update({"0.bias": torch.ones(5)}), "0.bias has shape \\(5,\\)"),
    ],
)
def test_state_that_does_not_fit_is_refused_by_name(change, reason: str) -> None:
    state = a_network().state_dict()
    change(state)
    with pytest.raises(WeightsError, match=reason):
        load_state(a_network(), state, source="here")
