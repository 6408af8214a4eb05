"""What scontrol prints, read."""

from __future__ import annotations

from launch.scontrol import is_alive, parse_jobs, task_numbers

ARRAY = """JobId=21 ArrayJobId=20 ArrayTaskId=1 JobName=x UserId=root(0) JobState=FAILED Reason=None ExitCode=1:0
JobId=20 ArrayJobId=20 ArrayTaskId=2-4%1 JobName=x JobState=PENDING Reason=JobArrayTaskLimit
"""


def test_members_of_an_array_are_found_one_by_one() -> None:
    states = {name: fields["JobState"] for name, fields in parse_jobs(ARRAY).items()}
    assert states == {
        "21": "FAILED",
        "20": "PENDING",
        "20_1": "FAILED",
        "20_2": "PENDING",
        "20_3": "PENDING",
        "20_4": "PENDING",
    }


def test_task_numbers() -> None:
    assert task_numbers("1,4-6%2") == [1, 4, 5, 6]
    assert task_numbers("3") == [3]
    assert task_numbers("") == []


def test_a_forgotten_or_failed_job_is_not_waited_for() -> None:
    assert is_alive("PENDING")
    assert not is_alive("FORGOTTEN")
    assert not is_alive("NODE_FAIL")
