"""A disk that fails at every call in turn (no space, an I/O error, half a write): either the sender hears of it, or the mail
is there - now, or after the restart that a failed flush forces - whole and once."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from trio.testing import MockClock

from appliance.kernel.disk import InLoopDisk
from appliance.kernel.journal import JournalError
from appliance.transfer.receiver import NoSpace
from tests.crash.test_power import number_of, quiet, text
from tests.crash.world import PEOPLE, World, living, prepare
from tests.kernel.disk_testing import FailingFiles


async def some_mail(world: World, accepted: dict[int, str]) -> None:
    for number, pause in ((1, 0.0), (2, 0.01), (3, 3), (4, 0.0), (5, 1)):
        name = PEOPLE[number % 2]
        try:
            await world.send(name, text(number))
        except (NoSpace, JournalError, OSError):
            pass
        else:
            accepted[number] = name
        await quiet(pause)


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["no space", "I/O error"])
async def test_a_disk_that_fails(tmp_path: Path, autojump_clock: MockClock, code: int, lasting: bool) -> None:
    model = tmp_path / "model"
    await prepare(model)
    ended = served = 0
    number = 0
    while True:
        base = tmp_path / "base"
        shutil.copytree(model, base)
        accepted: dict[int, str] = {}
        disk = InLoopDisk()
        failing = FailingFiles(number, code=code, times=None if lasting else 1)
        try:
            async with living(base, disk, orderly=False) as world:
                disk.files = failing
                await some_mail(world, accepted)
                disk.files = failing.inner
            served += 1
        except BaseException as error:  # the process would end here, and be started again
            if isinstance(error, (KeyboardInterrupt, AssertionError)):
                raise
            ended += 1
        async with living(base, later=1000) as world:
            await quiet(200)
            for name in PEOPLE:
                found = await world.mail(name)
                numbers = [number_of(content) for content in found.values()]
                for which, content in zip(numbers, found.values(), strict=True):
                    assert content.replace(b"\r\n", b"\n") == text(which), (number, "torn")
                assert len(set(numbers)) == len(numbers), (number, "twice")
                missing = {which for which, who in accepted.items() if who == name} - set(numbers)
                assert not missing, (number, accepted, missing)
            assert os.listdir(base / "BadFiles") == []
        shutil.rmtree(base)
        if failing.calls <= number:
            break
        number += 1 if number < 30 else 3
    assert number > 40
    assert served
    assert ended or not lasting
