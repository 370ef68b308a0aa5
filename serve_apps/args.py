"""What the application is built from: the arguments of `serve_apps.app.build`, from YAML, flags or code."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class StageArgs(BaseModel):
    """Size of one deployment, and how it grows.

    It grows where `max_replicas` is more than `replicas`: after a few seconds of more requests than
    `target_ongoing_requests` in each replica, and shrinks after minutes of fewer.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    replicas: int = Field(default=1, ge=1, description="At all times.")
    max_replicas: int = Field(default=1, ge=1, description="Under load.")
    target_ongoing_requests: float = Field(default=16.0, gt=0.0, description="In a replica, on average.")
    look_back_s: float = Field(default=4.0, gt=0.0, description="Time that the average is taken over.")
    upscale_delay_s: float = Field(default=2.0, ge=0.0, description="Load that lasts so long adds replicas.")
    downscale_delay_s: float = Field(default=120.0, ge=0.0, description="Idleness that removes them again.")
    cpus: float = Field(default=0.2, ge=0.0, description="Logical CPUs of a replica, for Ray's scheduler.")
    gpus: float = Field(
        default=0.0, ge=0.0, description="GPUs of a replica, for Ray's scheduler; the generator's alone."
    )
    threads: int = Field(default=4, ge=1, description="Requests that are worked on at the same time.")
    library_threads: int = Field(default=1, ge=1, description="Threads of torch and faiss in each of them.")
    max_ongoing_requests: int = Field(default=512, ge=1, description="Requests that a replica takes in.")


class IngressArgs(StageArgs):
    """Size of the ingress: a request is in it for as long as in all other stages together."""

    target_ongoing_requests: float = Field(default=64.0, gt=0.0, description="In a replica, on average.")


class JoinedArgs(StageArgs):
    """Size of the router and of the retriever, whose calls hold what several requests ask.

    Two calls are under way as soon as a replica is busy all the time.
    """

    target_ongoing_requests: float = Field(default=2.0, gt=0.0, description="In a replica, on average.")


class GeneratorArgs(StageArgs):
    """Size of the generator: each request has a thread, which waits while the engine's own thread decodes."""

    target_ongoing_requests: float = Field(default=32.0, gt=0.0, description="In a replica, on average.")
    cpus: float = Field(default=0.4, ge=0.0, description="Logical CPUs of a replica, for Ray's scheduler.")
    threads: int = Field(default=64, ge=1, description="Requests that are worked on at the same time.")


class ServeArgs(BaseModel):
    """The arguments of the application.

    The four stages fit on one logical CPU together, so that the whole graph runs on 2 cores beside
    Serve's own processes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: str = Field(description="Path or URI of the workspace; every node must reach it.")
    release: int | None = Field(
        default=None, description="Its number; left out, the current one, and each that follows it."
    )
    release_poll_s: float = Field(
        default=1.0, gt=0.0, description="How often each replica looks for a new release."
    )
    routing: Literal["linear", "vote", "centroid", "langid"] | None = Field(
        default=None, description="How adapters are chosen; left out, as the workspace's settings say."
    )
    examples: bool = Field(default=True, description="Show retrieved examples in the prompts.")
    timeout_s: float = Field(
        default=60.0, gt=0.0, description="Time that one request may take, and its body before that."
    )
    keys: Literal["required", "off"] = Field(
        default="required",
        description="`off` checks no API keys and answers only what this machine sends to itself.",
    )
    max_body_bytes: int = Field(default=8 << 20, ge=1, description="Longest body; longer ones get 413.")
    max_text_chars: int = Field(default=100_000, ge=1, description="Longest text; longer ones get 413.")
    max_streams: int = Field(
        default=8,
        ge=1,
        description="Streams per ingress replica, half of them of one key; more are answered with 429.",
    )
    stream_idle_s: float = Field(
        default=60.0, gt=0.0, description="Longest time without a line; then the stream is ended."
    )
    max_line_bytes: int = Field(default=1 << 20, ge=1, description="Longest line of a stream.")
    max_stream_ahead_bytes: int = Field(
        default=32 << 20, ge=1, description="Bytes that one stream may be ahead of its answers."
    )
    max_requests_in_flight: int = Field(
        default=256, ge=1, description="Requests per ingress replica; more are answered with 429."
    )
    ingress: IngressArgs = IngressArgs()
    router: JoinedArgs = JoinedArgs()
    retriever: JoinedArgs = JoinedArgs()
    generator: GeneratorArgs = GeneratorArgs()

    @model_validator(mode="after")
    def _check_gpus(self) -> Self:
        """Refuses GPUs that would be reserved and never used: embedders and indexes compute on CPUs."""
        for name in ("ingress", "router", "retriever"):
            sizes: StageArgs = getattr(self, name)
            if sizes.gpus:
                raise ValueError(
                    f"{name}.gpus is {sizes.gpus:g}, but only the generator computes on GPUs. Set"
                    f" generator.gpus, and leave {name}.gpus out."
                )
        return self
