"""Forms in which rows are handed over: the same values, elsewhere in memory."""

import contextlib
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.records.cases import Launch
from kernels_bench.relations.layout import RARER
from kernels_bench.relations.surroundings import AROUND
from kernels_bench.verification.bitwise import bits, same_bits
from kernels_bench.verification.subject.launch_forms import (
    FormRefused,
    beside,
    in_flat_buffers,
    laid_out,
    slices_of_wider,
    undisturbed,
)
from support.processes import wait_until

CPU = torch.device("cpu")
FORMS: tuple[Launch, ...] = ("view", "offset", "padded")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple)


def rows_of(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Any bits, of NaN and subnormal numbers too."""
    made = torch.randint(-(2**15), 2**15, shape, dtype=torch.int32)
    return made.view(dtype) if dtype == torch.float32 else made.to(torch.int16).view(dtype)


def whole_memory(tensor: torch.Tensor) -> torch.Tensor:
    """All that lies in its storage."""
    return torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())


@given(SHAPES, st.sampled_from(DTYPES), st.sampled_from(FORMS))
def test_values_are_the_same_and_what_lies_beside_them_is_nan_or_a_number(
    shape: tuple[int, ...], dtype: torch.dtype, form: Launch
) -> None:
    rows = rows_of(shape, dtype)
    before = rows.clone()
    (moved,) = laid_out((rows,), form)
    assert (moved.shape, moved.dtype) == (rows.shape, rows.dtype)
    assert bool(same_bits(moved.contiguous(), rows))
    around = whole_memory(moved)
    assert len(around) > rows.numel()
    moved.zero_()
    beside = around.isnan() if len(rows).bit_length() % 2 else around.float() == 0.75
    assert int(beside.sum()) == len(around) - rows.numel()
    assert bool(same_bits(rows, before))  # another memory than the rows' own


@given(SHAPES, st.sampled_from(DTYPES))
def test_a_view_has_wider_strides_and_the_others_are_contiguous(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    rows = rows_of(shape, dtype)
    width = rows[0].numel()
    (view,), (offset,), (padded,) = (laid_out((rows,), form) for form in FORMS)
    odd = len(rows) % 2
    if rows.dim() > 2 and len(rows) % 3 == 0:  # heads apart
        assert view.stride()[:-1] == tuple(3 * stride for stride in rows.stride()[:-1])
        assert (view.storage_offset(), view.stride(-1)) == (rows.shape[-1], 1)
    elif parts := {2: 3, 4: 2}.get(len(rows) % 5):  # the first part of a projection's
        assert view.stride(0) == parts * width
        assert view.storage_offset() == 0
    else:
        assert len(rows) == 1 or view.stride(0) == width + 128 + odd
        assert view.storage_offset() == 64
    if rows.dim() == 2 or len(rows) % 3:
        assert view.stride()[1:] == rows.stride()[1:]
    assert offset.is_contiguous()
    assert offset.data_ptr() % 64 == (rows.element_size() if odd else 32)
    assert padded.is_contiguous()
    assert padded.storage_offset() == 128 * width


@given(SHAPES, st.sampled_from(DTYPES), st.sampled_from(RARER))
def test_rows_of_rarer_strides_have_the_same_values(shape: tuple[int, ...], dtype: torch.dtype, form: Launch) -> None:
    rows = rows_of(shape, dtype)
    if form == "expanded":
        rows = rows[:1].expand_as(rows).contiguous()
    before = rows.clone()
    (moved,) = laid_out((rows,), form)
    assert bool(same_bits(moved.contiguous(), rows))
    strides = {
        "columns": tuple(2 * stride for stride in rows.stride()),
        "transposed": torch.empty(shape[1], shape[0], *shape[2:]).transpose(0, 1).stride(),
        "expanded": (0, *rows.stride()[1:]),
    }
    assert moved.stride() == strides[form] or len(rows) == 1
    assert len(whole_memory(moved)) >= rows.numel()  # a kernel that knows no strides reads nothing beyond
    alone = undisturbed((moved,), form)
    assert len(alone) == 1 or (form == "expanded" and len(rows) == 1)  # one row stands for itself
    assert all(map(bool, alone))
    assert bool(same_bits(rows, before))  # another memory than the rows' own


@pytest.mark.parametrize("form", ["columns", "expanded"])
def test_what_was_written_between_columns_or_after_the_one_row_is_known(form: Launch) -> None:
    (moved,) = laid_out((torch.ones(4, 3),), form)
    whole_memory(moved)[-1] = 1
    (alone,) = undisturbed((moved,), form)
    assert not bool(alone)


def test_one_row_stands_for_all_where_all_are_the_same() -> None:
    rows, same = torch.rand(4, 3), torch.ones(4, 3)
    left, moved = laid_out((rows, same), "expanded")
    assert left is rows
    assert moved.stride(0) == 0


def test_of_several_tensors_each_is_alone_a_view_all_are_or_all_are_slices_of_one() -> None:
    where = set()
    for m in range(1, 100):
        moved = laid_out((torch.rand(m, 3), torch.rand(m, 2, 2), torch.rand(m, 5)), "view")
        memory = [whole_memory(one).data_ptr() for one in moved]
        views = tuple(len(whole_memory(one)) > one.numel() for one in moved)
        where.add((views, len({*memory})))
        assert all(map(bool, undisturbed(moved, "view")))
    one = {((n == 0, n == 1, n == 2), 3) for n in range(3)}
    assert where == one | {((True,) * 3, 3), ((True,) * 3, 1)}


def test_slices_of_one_tensor_that_were_written_beside_are_known() -> None:
    moved = laid_out((torch.rand(4, 3), torch.rand(4, 5)), "view")
    whole_memory(moved[0])[-1] = 1
    assert not all(map(bool, undisturbed(moved, "view")))


def test_numbers_and_whole_numbers_begin_at_another_address_too() -> None:
    single, ids, rows = torch.rand(6), torch.arange(6), torch.rand(6, 3)
    moved = laid_out((single, ids, rows), "offset")
    assert [one.data_ptr() % 64 for one in moved] == [32, 32, 32]
    assert all(torch.equal(one, as_before) for one, as_before in zip(moved, (single, ids, rows), strict=True))


@pytest.mark.parametrize("turned", [False, True])
def test_weights_lie_in_wider_ones_or_at_another_address(turned: bool) -> None:
    matrix, line, ids = torch.rand(4, 6).t() if turned else torch.rand(6, 4), torch.rand(4), torch.arange(4)
    usual = (matrix, line, ids)
    wide, flat = slices_of_wider(usual), in_flat_buffers(usual)
    for moved in (wide, flat):
        assert all(torch.equal(one, as_before) for one, as_before in zip(moved, usual, strict=True))
    assert not wide[0].is_contiguous()
    assert not wide[0].mT.is_contiguous()
    assert (wide[1] is line, wide[2] is ids) == (True, True)
    assert [one.data_ptr() % 16 for one in flat] == [4, 4, 0]
    assert flat[0].stride() == matrix.stride()


@given(SHAPES, st.sampled_from(DTYPES), st.sampled_from(FORMS), st.data())
def test_what_was_written_beside_rows_is_known(
    shape: tuple[int, ...], dtype: torch.dtype, form: Launch, data: st.DataObject
) -> None:
    (moved,) = laid_out((rows_of(shape, dtype),), form)
    (alone,) = undisturbed((moved,), form)
    assert bool(alone)  # whatever the rows hold
    (moved,) = laid_out((rows_of(shape, dtype),), form)
    around = whole_memory(moved)
    moved.zero_()
    places = (around != 0).nonzero().flatten()
    around[places[data.draw(st.integers(0, len(places) - 1))]] = 1
    (alone,) = undisturbed((moved,), form)
    assert not bool(alone)


@pytest.mark.parametrize("form", [*FORMS, "eager", "graph", "concurrent", "updated", "kept", *AROUND])
def test_what_holds_no_rows_of_numbers_stays_as_it_is(form: Launch) -> None:
    integers, of_one_dimension = torch.arange(6).view(2, 3), torch.rand(4)
    rows = torch.rand(2, 3)
    same_integers, same_line, moved = laid_out((integers, of_one_dimension, rows), form)
    assert same_line is of_one_dimension
    assert (moved is rows) == (form not in FORMS)
    if form == "view":  # as of a table that is a slice of a wider one, beside the numbers of another row
        assert torch.equal(same_integers, integers)
        assert whole_memory(same_integers).view(2, 6).tolist() == [[0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]]
    else:
        assert same_integers is integers


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_a_number_a_row_is_a_column_of_a_table(dtype: torch.dtype) -> None:
    single, rows = torch.arange(7).to(dtype), torch.rand(7, 3)
    moved, _ = laid_out((single, rows), "view")
    assert torch.equal(moved, single)
    assert moved.stride(0) > 1
    assert all(map(bool, undisturbed((moved, rows), "view")))


def test_another_launch_runs_at_the_same_time_and_ends_with_it() -> None:
    done, both = [0], threading.Event()
    names: set[str] = set()

    def other() -> None:
        done[0] += 1
        names.add(threading.current_thread().name)
        if done[0] == 3:
            both.set()

    with beside([other], CPU) as counted:
        before = counted()
        assert both.wait()  # again and again, while this one goes on
        assert wait_until(lambda: counted() > before)
    ended = done[0]
    assert threading.current_thread().name not in names
    assert not any(thread.name in names for thread in threading.enumerate())
    assert done[0] == ended


def test_two_others_run_at_once_where_that_is_asked_for() -> None:
    together = threading.Barrier(3)

    def other() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait()

    with beside([other, other, other], CPU, at_once=2):
        together.wait(60)  # all three are there
        together.abort()


def test_of_two_launches_the_one_in_the_foreground_tells() -> None:
    def failing() -> None:
        raise RuntimeError("behind")

    with beside([failing], CPU):
        pass
    with pytest.raises(ValueError, match="in front"), beside([failing], CPU):
        raise ValueError("in front")


def test_tritons_interpreter_runs_one_kernel_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(FormRefused, match="one kernel at a time"), beside([lambda: None], CPU):
        raise AssertionError("begun")


def test_nan_around_the_rows_has_a_bit_pattern_that_no_result_hides() -> None:
    (padded,) = laid_out((torch.zeros(1, 4),), "padded")
    assert {*bits(whole_memory(padded)).tolist()} == {0, int(bits(torch.tensor([torch.nan])))}
