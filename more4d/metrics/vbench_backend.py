"""VBench (Huang et al., arXiv 2311.17982): the six dimensions that it measures on videos of any origin.

The adapter follows the published interface of `vbench`, which fetches its own networks (gigabytes). It was
tested with a stand-in of that interface: neither the package nor its networks could be had where it was
written.
"""

from pathlib import Path

from more4d.foundation.documents import DocumentError, parse_json
from more4d.foundation.errors import WeightsError
from more4d.foundation.optional import require

DIMENSIONS = tuple(
    "subject_consistency background_consistency motion_smoothness dynamic_degree aesthetic_quality"
    " imaging_quality".split()
)
NAME = "more4d"


def vbench_scores(videos: Path, output: Path, *, device: str = "cuda") -> dict[str, float]:
    """The score of each of `DIMENSIONS`, over all videos of a folder.

    Args:
        videos: folder of .mp4 files.
        output: where VBench writes its own results.

    Raises:
        MissingPackageError: vbench is not installed.
        WeightsError: one of its networks cannot be had, or its results are not where they should be.
    """
    module = require("vbench", extra="vbench")
    listed = Path(module.__file__).parent / "VBench_full_info.json"
    bench = module.VBench(device, str(listed), str(output))
    try:
        bench.evaluate(
            videos_path=str(videos), name=NAME, dimension_list=list(DIMENSIONS), mode="custom_input"
        )
        results = parse_json((output / f"{NAME}_eval_results.json").read_bytes(), {str: list})
    except (OSError, RuntimeError, DocumentError) as error:
        reason = " ".join(str(error).split())[:200]
        raise WeightsError(f"VBench could not measure {videos} ({reason})") from error
    return {name: float(results[name][0]) for name in DIMENSIONS if name in results}
