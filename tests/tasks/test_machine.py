"""Free memory as a machine, a container and a batch job tell it, from files of a made-up system."""

from __future__ import annotations

from pathlib import Path

import pytest

from xwx.tasks.machine import free_ram

GB = 10**9
MEMINFO = (
    "MemTotal: 99000000 kB\nMemFree: 100 kB\nMemAvailable:   64000000 kB\nHugePages_Total: 0\n"
)
UNLIMITED = 0x7FFFFFFFFFFFF000  # what version 1 says where no limit is set


def system(root: Path, group: str, **files: str) -> Path:
    """Write files of a system whose machine has 65.536 GB free; "__" stands for a slash."""
    for name, text in {"proc__meminfo": MEMINFO, "proc__self__cgroup": group, **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def v2(root: Path, folder: str, limit: str, used: int, inactive: int | None = 0) -> None:
    path = root / "sys/fs/cgroup" / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "memory.max").write_text(f"{limit}\n")
    (path / "memory.current").write_text(f"{used}\n")
    if inactive is not None:
        # What stands beside it counts, but not as given back: it is in use, or counted twice.
        stat = f"anon 7\nactive_file {5 * GB}\nfile {9 * GB}\ninactive_file {inactive}\n"
        (path / "memory.stat").write_text(f"{stat}total_inactive_file {GB}\n")


def v1(root: Path, folder: str, limit: int, used: int, inactive: int = 0) -> None:
    path = root / "sys/fs/cgroup/memory" / folder
    path.mkdir(parents=True, exist_ok=True)
    (path / "memory.limit_in_bytes").write_text(f"{limit}\n")
    (path / "memory.usage_in_bytes").write_text(f"{used}\n")
    stat = f"inactive_file {5 * GB}\ntotal_active_file {5 * GB}\ntotal_inactive_file {inactive}\n"
    (path / "memory.stat").write_text(stat)


def test_a_machine_without_limits(tmp_path):
    assert free_ram(tmp_path) is None  # no such files: another system
    assert free_ram(system(tmp_path, "0::/\n")) == 64_000_000 * 1024
    v2(tmp_path, "", "max", 3 * GB)
    assert free_ram(tmp_path) == 64_000_000 * 1024


def test_a_container_and_the_page_cache_it_can_give_back(tmp_path):
    system(tmp_path, "0::/\n")
    v2(tmp_path, "", str(16 * GB), 15 * GB, 6 * GB)
    assert free_ram(tmp_path) == 7 * GB
    v2(tmp_path, "", str(16 * GB), 17 * GB, 0)
    assert free_ram(tmp_path) == 0
    (tmp_path / "sys/fs/cgroup/memory.stat").unlink()
    v2(tmp_path, "", str(16 * GB), 15 * GB, None)
    assert free_ram(tmp_path) == GB


@pytest.mark.parametrize(
    ("step", "job", "user", "free"),
    [
        (("max", 1), ("8000000000", 2 * GB), ("max", 30 * GB), 6),
        (("4000000000", GB), ("8000000000", 2 * GB), ("max", 30 * GB), 3),
        (("4000000000", GB), ("8000000000", 2 * GB), ("40000000000", 38 * GB), 2),
        (("max", 1), ("max", 1), ("40000000000", 20 * GB), 20),
    ],
)
def test_the_least_that_the_groups_of_a_batch_job_leave(tmp_path, step, job, user, free):
    system(tmp_path, "0::/slurm/user_7/job_42/step_0\n")
    v2(tmp_path, "slurm/user_7/job_42/step_0", *step)
    v2(tmp_path, "slurm/user_7/job_42", *job)
    v2(tmp_path, "slurm/user_7", *user)  # none for slurm, and none at the root: as it is in Linux
    v2(tmp_path, "slurm/user_8", str(GB), GB)  # of somebody else
    assert free_ram(tmp_path) == free * GB


def test_the_first_version(tmp_path):
    """Its controllers have a hierarchy each; only that of memory counts."""
    group = "9:name=systemd:/one\n5:cpu,cpuacct:/two\n4:hugetlb,memory:/job/step\n0::/three\n"
    system(tmp_path, group)
    v1(tmp_path, "", UNLIMITED, 50 * GB)
    assert free_ram(tmp_path) == 64_000_000 * 1024
    v1(tmp_path, "two", GB, GB)
    v1(tmp_path, "job", 20 * GB, 12 * GB, 3 * GB)
    v1(tmp_path, "job/step", UNLIMITED, 10 * GB)
    assert free_ram(tmp_path) == 11 * GB
    v1(tmp_path, "job/step", 12 * GB, 10 * GB)
    assert free_ram(tmp_path) == 2 * GB
    (tmp_path / "proc/meminfo").unlink()
    assert free_ram(tmp_path) == 2 * GB
    v1(tmp_path, "job", UNLIMITED, GB)
    v1(tmp_path, "job/step", UNLIMITED, GB)
    assert free_ram(tmp_path) is None  # a number that stands for no limit is not free memory


@pytest.mark.parametrize("group", ["0::/kubepods/pod7/abc\n", "0::/../../elsewhere\n"])
def test_the_path_of_the_host_seen_from_a_container(tmp_path, group):
    system(tmp_path, group)
    v2(tmp_path, "", str(16 * GB), 15 * GB)
    assert free_ram(tmp_path) == GB


def test_what_cannot_be_read_is_passed_over(tmp_path):
    system(tmp_path, "0::/job\nnonsense\n\n4:memory\n")
    v2(tmp_path, "job", str(3 * GB), GB)
    assert free_ram(tmp_path) == 2 * GB
    folder = tmp_path / "sys/fs/cgroup/job"
    (folder / "memory.stat").write_bytes(b"inactive_file\ninactive_file many\n\xff\xfe 3\n")
    assert free_ram(tmp_path) == 2 * GB
    (folder / "memory.current").unlink()
    (folder / "memory.current").mkdir()
    assert free_ram(tmp_path) == 64_000_000 * 1024
    (tmp_path / "proc/meminfo").write_text("MemAvailable: lots kB\n")
    assert free_ram(tmp_path) is None
    (tmp_path / "proc/self/cgroup").unlink()
    assert free_ram(tmp_path) is None


def test_this_machine():
    free = free_ram()
    assert free is None or 0 <= free < 2**50
