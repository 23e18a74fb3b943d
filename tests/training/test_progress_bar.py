"""What a user sees on a terminal, on a narrow one, and in a log file."""

import io
import threading

import pytest
from epochs import epoch_record
from rich.console import Console

from training.monitor.progress_bar import ProgressBar


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def record(epoch, val_mean_iou=0.5):
    return epoch_record(epoch, loss=0.1234, accuracy=0.75, val_mean_iou=val_mean_iou, seconds=61.5, images_per_s=12.5)


@pytest.fixture
def clock():
    return Clock()


def screen(width=100):
    return Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None, highlight=False)


def lines(bar, console):
    """What stands on the screen now, line by line."""
    page = Console(file=io.StringIO(), width=console.width, color_system=None)
    for part in bar._bar.get_renderables():
        page.print(part)
    return [line.rstrip() for line in page.file.getvalue().splitlines()]


class TestOnATerminal:
    def test_a_bar_with_the_time_left_stands_over_loss_best_and_speed(self, clock):
        console = screen()
        with ProgressBar(60, console=console, clock=clock) as bar:
            bar.resume([record(1, 0.4), record(2, 0.6), record(3, 0.5)])
            bar.step(4, 0.2, 0.5, 8)
            clock.now += 10
            bar.step(4, 0.4, 0.25, 8)
            top, bottom = lines(bar, console)
        assert "epoch 4/60" in top
        assert " 40%" in top
        assert top.endswith("0:30 left"), "a fifth of the run took 10 s, and three fifths are left"
        assert bottom == "  loss 0.2500  val mean IoU 0.5000 (best 0.6000 in epoch 2)  0.8 images/s"

    @pytest.mark.parametrize("width", [30, 40, 60, 80])
    def test_it_takes_two_lines_however_narrow(self, clock, width):
        console = screen(width)
        with ProgressBar(60, console=console, clock=clock) as bar:
            bar.resume([record(1)])
            for epoch in (2, 2):
                bar.step(epoch, epoch / 60, 0.5, 8)
                clock.now += 1
            found = lines(bar, console)
            assert len(found) == 2
            assert all(len(line) <= width for line in found)
            assert "loss 0.5000" in found[1]

    def test_what_happens_beside_the_steps_is_shown_while_it_does(self, clock):
        console = screen()
        with ProgressBar(2, console=console, clock=clock) as bar:
            bar.advance("reading images", 0, 3)
            bar.advance("reading images", 1, 3)
            assert lines(bar, console)[1] == "  reading images 1/3"
            bar.step(1, 0.1, 0.5, 8)
            bar.advance("validating", 0, 2)
            assert lines(bar, console)[1] == "  validating …"
            bar.advance("validating", 2, 2)
            assert lines(bar, console)[1] == "  loss 0.5000"

    def test_parts_may_be_counted_from_several_threads(self, clock):
        console = screen()
        with ProgressBar(2, console=console, clock=clock) as bar:
            bar.advance("reading images", 0, 65)
            ready = threading.Barrier(8)

            def count(first):
                ready.wait()
                for done in range(first, 65, 8):
                    bar.advance("reading images", done, 65)

            threads = [threading.Thread(target=count, args=(first,)) for first in range(1, 9)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            bar.advance("reading images", 3, 65)  # a thread that is late
            assert lines(bar, console)[1] == "  reading images 64/65"

    def test_the_speed_is_that_of_the_steps_alone(self, clock):
        console = screen()
        with ProgressBar(2, console=console, clock=clock) as bar:
            for share in (0.1, 0.2):
                bar.step(1, share, 0.5, 8)
                clock.now += 1
            bar.advance("validating", 0, 1)
            clock.now += 1000
            bar.advance("validating", 1, 1)
            bar.epoch(record(1), best=True)
            for share in (0.6, 0.7):
                bar.step(2, share, 0.5, 8)
                clock.now += 2
            assert lines(bar, console)[1] == "  loss 0.5000  val mean IoU 0.5000 (the best)  4.0 images/s"

    def test_a_long_epoch_writes_no_lines_above_the_bar(self, clock):
        console = screen()
        with ProgressBar(2, console=console, clock=clock) as bar:
            for share in (0.1, 0.2):
                bar.step(1, share, 0.0625, 8)
                clock.now += 100
            bar.step(1, 0.3, 0.0625, 8)
        assert "30%  " not in console.file.getvalue()

    @pytest.mark.parametrize(("width", "last"), [(120, "accuracy 0.7500"), (64, "61.5 s"), (30, "loss 0.1234")])
    def test_the_line_of_an_epoch_leaves_out_what_does_not_fit(self, clock, width, last):
        console = screen(width)
        with ProgressBar(60, console=console, clock=clock) as bar, console.capture() as capture:
            bar.epoch(record(7), best=False)
        (line,) = [line for line in capture.get().splitlines() if "epoch   7/60" in line]
        assert line.rstrip().endswith(last)


class TestInALogFile:
    def written(self, clock, use):
        file = io.StringIO()
        with ProgressBar(None, console=Console(file=file, soft_wrap=True, highlight=False), clock=clock) as bar:
            use(bar)
        return file.getvalue().splitlines()

    def test_there_is_one_line_an_epoch_and_no_bar(self, clock):
        def train(bar):
            for epoch, best in ((1, True), (2, False)):
                bar.advance("validating", 0, 1)
                bar.advance("validating", 1, 1)
                bar.step(epoch, epoch / 2, 0.5, 8)
                bar.epoch(record(epoch), best=best)

        rest = "61.5 s    12.5 images/s  val accuracy 0.8750  accuracy 0.7500"
        assert self.written(clock, train) == [
            f"epoch   1  loss 0.1234  val mean IoU 0.5000 best    {rest}",
            f"epoch   2  loss 0.1234  val mean IoU 0.5000         {rest}",
        ]

    def test_a_long_silence_is_broken(self, clock):
        def train(bar):
            bar.advance("reading images", 1, 9)
            clock.now += 61
            bar.advance("reading images", 2, 9)
            bar.advance("reading images", 3, 9)
            for share in (0.1, 0.2, 0.3):
                bar.step(1, share, 0.5, 8)
                clock.now += 40

        assert self.written(clock, train) == [
            "reading images 2/9",
            "epoch 1  30%  4:40 left  loss 0.5000  0.2 images/s",
        ]

    def test_brackets_in_a_name_are_text(self, clock):
        assert self.written(clock, lambda bar: bar.note("[red]a[/red] [1/2]")) == ["[red]a[/red] [1/2]"]


def test_without_an_earlier_epoch_there_is_no_best(clock):
    console = screen()
    with ProgressBar(2, console=console, clock=clock) as bar:
        bar.resume([])
        bar.step(1, 0.1, 0.5, 8)
        assert lines(bar, console)[1] == "  loss 0.5000"
