"""Sizes that no network has are refused by the header, in one line, before anything is built."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from more4d.files import checkpoint_headers
from more4d.foundation.errors import WeightsError
from more4d.networks import vism
from more4d.pipelines.preset_check import FileState
from more4d.weights.load import inspect, load
from more4d.weights.lora.io import read_lora
from tests.networks.assertions import assert_one_line_error
from tests.networks.sparse_files import write_sparse_safetensors

MANY, WIDE = 10**6, 10**7
WAN = {"in_channels": 36, "dim": 24, "ffn_dim": 32, "heads": 2, "layers": 1}
TRANSFORMER = {
    "patch_embedding.weight": (24, 36, 1, 2, 2),
    "blocks.0.self_attn.q.weight": (24, 24),
    "head.head.weight": (64, 24),
}
TEXT = {"token_embedding.weight": (9, 8), "blocks.0.ffn.gate.0.weight": (1, 8)}
TRUNK = {"trunk.patch_embed.proj.1.weight": (64, 3, 2, 16, 16), "trunk.pos_embed": (1, 8, 64)}
TRUNK["trunk.blocks.0.mlp.fc1.weight"] = (256, 64)
VISION = {"visual.patch_embedding.weight": (80, 3, 14, 14), "visual.pos_embedding": (1, 257, 80)}


@pytest.fixture(autouse=True)
def nothing_is_built(monkeypatch):
    monkeypatch.setattr(vism.ViSM, "__init__", lambda *_: pytest.fail("a network was built"))


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (TRANSFORMER | {f"blocks.{MANY - 1}.self_attn.q.weight": (24, 24)}, f"claims {MANY} blocks"),
        (TRANSFORMER | {"patch_embedding.weight": (WIDE, 36, 1, 2, 2)}, f"claims dim {WIDE}"),
        (TEXT | {f"blocks.{MANY - 1}.attn.q.weight": (1,)}, f"claims {MANY} blocks"),
        (TEXT | {"token_embedding.weight": (9, WIDE)}, f"claims dim {WIDE}"),
        (TRUNK | {"trunk.pos_embed": (1, 10**9, 1)}, "claims image_size"),
        (TRUNK | {"trunk.patch_embed.proj.1.weight": (60_000, 3, 2, 1, 1), "trunk.pos_embed": (1, 2**22, 1)},
         "claims 524176 positions of width 60000"),
        (VISION | {"visual.patch_embedding.weight": (WIDE, 3, 14, 14)}, f"claims dim {WIDE}"),
        (TRANSFORMER | {"patch_embedding.weight": (0, 36, 1, 2, 2)}, "of length 0"),
    ],
)  # fmt: skip
def test_a_header_that_claims_the_impossible_is_one_line(tmp_path: Path, tensors: Any, words):
    path = tmp_path / "w.safetensors"
    shapes = {
        name: torch.empty(shape, dtype=torch.bfloat16, device="meta") for name, shape in tensors.items()
    }
    write_sparse_safetensors(path, shapes)
    found = inspect(path)
    with pytest.raises(WeightsError) as error:
        load(found)
    assert_one_line_error(error, words, str(path), "fetch it again, or give the right file")
    assert FileState(path=path, found=found).state == "broken"


@pytest.mark.parametrize("claim", [{"layers": MANY}, {"dim": WIDE}, {"ffn_dim": -1}, {"heads": 0}])
def test_so_is_a_configuration_or_an_option(tmp_path: Path, claim):
    path = tmp_path / "w.safetensors"
    about = {"format": "more4d-network", "version": "1", "kind": "vism"}
    save_file({"a": torch.ones(1)}, path, about | {"config": json.dumps({"wan": WAN | claim})})
    with pytest.raises(WeightsError) as error:
        load(inspect(path))
    assert_one_line_error(error, "claims" if claim != {"heads": 0} else "of length 0")
    save_file({name: torch.ones(shape) for name, shape in TRANSFORMER.items()}, path)
    with pytest.raises(WeightsError) as error:
        load(inspect(path, role="vism", options={"heads": 2} | claim))
    assert_one_line_error(error, "claims" if claim != {"heads": 0} else "of length 0")


def test_the_number_of_tensors_is_bounded_before_they_are_parsed(tmp_path: Path, monkeypatch):
    path = tmp_path / "w.safetensors"
    save_file({name: torch.ones(shape) for name, shape in TRANSFORMER.items()}, path)
    monkeypatch.setattr(checkpoint_headers, "MOST_TENSORS", 2)
    with pytest.raises(WeightsError) as error:
        load(inspect(path))
    assert_one_line_error(error, "claims 3 tensors, and at most 2 are possible")


def test_a_number_of_thousands_of_digits_is_no_block(tmp_path: Path):
    name = "blocks." + "9" * 5000 + ".self_attn.q"
    save_file({f"{name}.lora_A.weight": torch.ones(1, 24)}, tmp_path / "lora.safetensors")
    assert inspect(tmp_path / "lora.safetensors").problems
    with pytest.raises(WeightsError, match="updates nothing"):
        read_lora(tmp_path / "lora.safetensors")
