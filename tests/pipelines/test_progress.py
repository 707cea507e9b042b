from more4d.pipelines.sampling import no_progress, step_counter


def test_a_counter_starts_at_nothing_and_ends_at_all():
    reports = []
    step = step_counter(lambda *report: reports.append(report), "tracks", 3)
    for _ in range(3):
        step()
    assert reports == [("tracks", done, 3) for done in range(4)]


def test_silence_takes_any_report():
    assert no_progress("tracks", 1, 3) is None
