from hypothesis import given, settings
from hypothesis import strategies as st

from daydreamer.replay.index import Index, Window
from daydreamer.replay.record import Entry


@st.composite
def logs(draw):
    """Entries of up to three streams in any interleaving, some of them missing, some with a jump in the steps."""
    entries, nexts = [], {}
    chunks = st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(1, 9), st.integers(0, 9), st.integers(0, 12))
    for stream, steps, there, jump in draw(st.lists(chunks, max_size=25)):
        sequence, first = nexts.get(stream, (0, 0))
        first += jump == 0  # one in thirteen
        if there:  # nine in ten
            entries.append(Entry(stream, sequence, first, steps, len(entries) // 4, 0, 0, 0))
        nexts[stream] = sequence + 1, first + steps
    return entries


def brute_force(entries, length, burn_in):
    """All windows by trying every one, in the order in which their last chunk was written."""
    there = {(e.stream, step): e for e in entries for step in range(e.first_step, e.end_step)}

    def unbroken(stream, start, stop):
        chunks = [there.get((stream, step)) for step in range(start, stop)]
        return all(chunks) and all(b.sequence - a.sequence <= 1 for a, b in zip(chunks, chunks[1:], strict=False))

    found = []
    for entry in entries:
        for last in range(entry.first_step, entry.end_step):
            start = last + 1 - length - burn_in
            begins = [e.first_step for e in entries if e.stream == entry.stream and e.sequence == 0]
            padded = any(start <= b <= last + 1 - length and unbroken(entry.stream, b, last + 1) for b in begins)
            if padded or unbroken(entry.stream, start - 1, last + 1):
                found.append(Window(entry.stream, start, last + 1))
    return found


@settings(max_examples=300, derandomize=True)
@given(logs(), st.integers(1, 12), st.integers(0, 5))
def test_the_windows_are_those_that_brute_force_finds(entries, length, burn_in):
    index = Index()
    for place, entry in enumerate(entries):
        index.add(entry)
        if place % 3 == 0:
            index.count(length, burn_in)  # counted while it grows
    windows = [index.window(n, length, burn_in) for n in range(index.count(length, burn_in))]
    assert windows == brute_force(entries, length, burn_in)
    for window in windows:
        plan = index.plan(window)
        assert plan.padding + sum(high - low for _, low, high in plan.pieces) == length + burn_in
        assert (plan.before is None) == plan.begins


@settings(max_examples=200, derandomize=True)
@given(logs(), st.integers(1, 6), st.integers(0, 3), st.integers(0, 40))
def test_the_next_window_is_the_first_that_starts_late_enough(entries, length, burn_in, scored):
    index = Index(entries)
    for stream in (b"a", b"b", b"c"):
        mine = [w for w in brute_force(entries, length, burn_in) if w.stream == stream]
        fitting = [w for w in mine if w.start + burn_in >= scored]
        assert index.next_window(stream, scored, length, burn_in) == min(fitting, default=None)


@settings(max_examples=100, derandomize=True)
@given(logs(), st.integers(0, 6))
def test_what_lies_in_dropped_segments_is_as_if_it_had_never_been(entries, oldest):
    index = Index(entries).since(oldest)
    windows = [index.window(n, 4, 2) for n in range(index.count(4, 2))]
    assert windows == brute_force([e for e in entries if e.segment >= oldest], 4, 2)
