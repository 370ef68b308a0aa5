"""Jobs on a Ray cluster by its jobs API: submitted once, followed to their end, started again where they die.

A submission is named by what it does: the same command, settings and code have the same name, so whoever
submits it twice is attached to the first. Attempts are numbered: ``retrieveall-tag-0123456789abcdef-1``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from retrieveall.digests import digest_json
from retrieveall.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from ray.job_submission import JobDetails

PREFIX: Final = "retrieveall-"
_MISTAKES: Final = (2, 3)
"""Exit codes that would come again: a user's mistake, and adapters that were trained but not published."""
_CHATTY: Final = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
_POLL_S: Final = 0.5
_LOST_S: Final = 60.0

Write: TypeAlias = Callable[[str], None]
"""Called with what a job wrote, in pieces that need not be lines."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Work:
    """What is to be done.

    Attributes:
        name: Of the command.
        arguments: The command line.
        runtime_env: Of Ray, its local folders not yet uploaded.
        contents: Digests of the local folders and files that it names, by path.
        code: Digest or version of the code that does it.
        driver_cpus: CPUs of the job's own process.
        driver_gpus: Likewise.
    """

    name: str
    arguments: tuple[str, ...]
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    contents: Mapping[str, str] = field(default_factory=dict)
    code: str = ""
    driver_cpus: float = 0.0
    driver_gpus: float = 0.0

    @property
    def stem(self) -> str:
        """What the ids of all attempts begin with."""
        # where code lies on this machine does not matter, what it holds does
        settings = _by_content(self.runtime_env, self.contents)
        resources = [self.driver_cpus, self.driver_gpus]
        return f"{PREFIX}{self.name}-{digest_json([self.arguments, settings, self.code, resources])}-"


class JobCluster:
    """The jobs of one cluster.

    Args:
        address: Of the cluster's dashboard, such as ``http://HEAD:8265``.

    Raises:
        ConfigError: Nothing answers there, or it refuses the token.
    """

    def __init__(self, address: str) -> None:
        from ray.job_submission import JobSubmissionClient

        self.address = address if "://" in address else f"http://{address}"
        os.environ["RAY_API_SERVER_ADDRESS"] = self.address  # the client prefers it to what it is given
        for name in _CHATTY:
            logging.getLogger(name).setLevel(logging.ERROR)
        with self._answering():
            self._client = JobSubmissionClient(self.address)

    def jobs(self, stem: str = PREFIX) -> list[JobDetails]:
        """Returns our jobs, or the attempts at one work, from the first to the last."""
        with self._answering():
            found = self._client.list_jobs()
        ours = [job for job in found if (job.submission_id or "").startswith(stem)]
        return sorted(ours, key=lambda job: (job.start_time or 0, number_of(job)))

    def job(self, submission_id: str) -> JobDetails:
        """Returns one job.

        Raises:
            NotFoundError: There is none of that id.
        """
        with self._answering(submission_id):
            return self._client.get_job_info(submission_id)

    def submit(self, work: Work, *, again: bool = False) -> tuple[str, bool]:
        """Submits a work, or finds the attempt that is under way or was successful.

        Args:
            work: What is to be done.
            again: Also where it was done before.

        Returns:
            The submission's id, and whether it is new.
        """
        before = self.jobs(work.stem)
        if before and not (_is_over(before[-1]) and (again or before[-1].status != "SUCCEEDED")):
            return str(before[-1].submission_id), False
        number = 1 + max(map(number_of, before), default=0)
        return f"{work.stem}{number}", self._start(work, f"{work.stem}{number}")

    def _start(self, work: Work, submission_id: str) -> bool:
        """Starts an attempt; False where another did it at the same moment."""
        with self._answering():
            try:
                self._client.submit_job(
                    entrypoint=shlex.join(work.arguments),
                    submission_id=submission_id,
                    runtime_env=dict(work.runtime_env),
                    metadata={"command": work.name, "code": work.code},
                    entrypoint_num_cpus=work.driver_cpus or None,
                    entrypoint_num_gpus=work.driver_gpus or None,
                )
            except RuntimeError as error:
                if "already exists" not in str(error):
                    raise
                return False
        return True

    def stop(self, submission_id: str) -> bool:
        """Stops a job and waits until it is over; False where it was over before."""
        with self._answering(submission_id):
            stopped: bool = self._client.stop_job(submission_id)
        while not _is_over(self.job(submission_id)):
            time.sleep(_POLL_S)
        return stopped

    def logs(self, submission_id: str) -> str:
        """Returns all that a job has written."""
        with self._answering(submission_id):
            text: str = self._client.get_job_logs(submission_id)
        return text

    def run(
        self, work: Work, submission_id: str, *, retries: int, write: Write, tell: Callable[[str], None]
    ) -> JobDetails:
        """Follows a work to its end; an attempt that failed by no mistake of the user is made again.

        Args:
            work: What is to be done.
            submission_id: The attempt that is under way.
            retries: Most attempts after it.
            write: Gets the job's log.
            tell: Gets a line on what becomes of the job.

        Returns:
            How the last attempt ended.
        """
        for left in range(retries, -1, -1):
            try:
                ended = self.follow(submission_id, write=write, tell=tell)
            except NotFoundError:  # a head that was started anew knows nothing of it
                if not left:
                    raise
                tell(f"{submission_id} is gone; trying again")
            else:
                if not left or ended.status != "FAILED" or ended.driver_exit_code in _MISTAKES:
                    break
                tell(f"{submission_id} failed: {told(ended)}; trying again")
            submission_id, _ = self.submit(work)
        return ended

    def follow(self, submission_id: str, *, write: Write, tell: Callable[[str], None]) -> JobDetails:
        """Writes a job's log as it grows, until the job is over; a broken connection is made again.

        Raises:
            NotFoundError: There is no such job, or no longer.
            ConfigError: Nothing has answered for a minute.
        """
        import aiohttp

        copy = _LogCopy(write)
        waiting, heard_s = "", time.monotonic()
        while True:
            try:
                details = self.job(submission_id)
                heard_s = time.monotonic()
                if details.status == "PENDING":
                    if told(details) != waiting:
                        waiting = told(details)
                        tell(f"{submission_id} waits: {waiting}")
                else:
                    asyncio.run(copy.take(self._client.tail_job_logs(submission_id)))
                    details = self.job(submission_id)
                if _is_over(details):
                    return details
            except (ConfigError, RuntimeError, OSError, aiohttp.ClientError):
                if time.monotonic() - heard_s > _LOST_S:
                    raise
            time.sleep(_POLL_S)

    @contextlib.contextmanager
    def _answering(self, submission_id: str = "") -> Iterator[None]:
        """Says in one line why the cluster did not do what it was asked."""
        import requests
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError as error:
            raise ConfigError(
                f"The cluster at {self.address} does not take the token that was sent, or none was: set"
                " RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH, or ~/.ray/auth_token)"
                " to the cluster's."
            ) from error
        except (ConnectionError, requests.RequestException) as error:
            raise ConfigError(
                f"No Ray dashboard answers at {self.address}. Check --address, and that the cluster runs;"
                " with Kubernetes: kubectl port-forward service/NAME-head-svc 8265."
            ) from error
        except RuntimeError as error:
            if submission_id and "does not exist" in str(error):
                raise NotFoundError(
                    f"The cluster at {self.address} has no job {submission_id!r}."
                    " List them: retrieveall submit status."
                ) from error
            raise


class _LogCopy:
    """Hands a log on once, however often it is read from its beginning."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._chars = 0

    async def take(self, texts: AsyncIterator[str]) -> None:
        """Reads the log from its beginning to where it ends for now."""
        known = self._chars
        async for text in texts:
            fresh = text[known:]
            known = max(0, known - len(text))
            self._chars += len(fresh)
            if fresh:
                self._write(fresh)


def number_of(job: JobDetails) -> int:
    """Returns the number of an attempt."""
    last = str(job.submission_id).rsplit("-", 1)[-1]
    return int(last) if last.isdecimal() else 0


def told(job: JobDetails) -> str:
    """Returns Ray's word on a job in one line, without the log that it quotes."""
    return " ".join((job.message or "").split(", last available logs")[0].split())


def _by_content(value: Any, contents: Mapping[str, str]) -> Any:
    """Returns a value with digests for the paths in it whose content is known."""
    if isinstance(value, str):
        return contents.get(value, value)
    if isinstance(value, Mapping):
        return {name: _by_content(item, contents) for name, item in value.items()}
    return [_by_content(item, contents) for item in value] if isinstance(value, list) else value


def _is_over(job: JobDetails) -> bool:
    return bool(job.status.is_terminal())
