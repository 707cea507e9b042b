"""What PyTorch's allocator gave out while something ran: a measurement that owes nothing to our own."""

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def allocated_peak(run: Callable[[], object]) -> int:
    """The most bytes on the CPU that were given out at once since the start of `run`."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    given, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        given += event.nbytes()
        most = max(most, given)
    return most
