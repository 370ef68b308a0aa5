"""The fields that KubeRay 1.5's custom resources have, as far as cluster/ uses them; others are refused.

Written down from the operator's Go types (`ray-operator/apis/ray/v1`). Of Kubernetes' own types only the
parts that a typing mistake would hit are here: names, images, ports, resources, volumes, and who may connect
to what.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator
from pydantic.alias_generators import to_camel

Quantity = Annotated[str, Field(pattern=r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$", strict=True)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=63, strict=True)]


class Fields(BaseModel):
    """Knows its fields and no others."""

    model_config = ConfigDict(extra="forbid", alias_generator=to_camel)


class Metadata(Fields):
    name: Annotated[Name, Field(max_length=47)]  # the operator adds to it
    labels: dict[str, StrictStr] = Field(default_factory=dict)
    annotations: dict[str, StrictStr] = Field(default_factory=dict)


class Resources(Fields):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]


class Port(Fields):
    name: Annotated[Name, Field(max_length=15)]
    container_port: Annotated[StrictInt, Field(ge=1, le=65535)]


class Mount(Fields):
    name: Name
    mount_path: StrictStr


class Claim(Fields):
    claim_name: Name


class Volume(Fields):
    name: Name
    persistent_volume_claim: Claim


class Container(Fields):
    name: Name
    image: StrictStr
    ports: list[Port]
    resources: Resources
    volume_mounts: list[Mount]
    security_context: dict[str, Any]


class Pod(Fields):
    containers: list[Container]
    volumes: list[Volume]
    security_context: dict[str, Any]
    tolerations: list[dict[str, StrictStr]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _mounts_what_it_has(self) -> Pod:
        volumes = {volume.name for volume in self.volumes}
        assert all(mount.name in volumes for one in self.containers for mount in one.volume_mounts)
        return self


class Template(Fields):
    spec: Pod


class HeadGroup(Fields):
    ray_start_params: dict[str, StrictStr]
    template: Template


class WorkerGroup(Fields):
    group_name: Name
    replicas: StrictInt
    min_replicas: StrictInt
    max_replicas: StrictInt
    ray_start_params: dict[str, StrictStr]
    template: Template

    @model_validator(mode="after")
    def _starts_within_its_bounds(self) -> WorkerGroup:
        assert 0 <= self.min_replicas <= self.replicas <= self.max_replicas
        return self


class AutoscalerOptions(Fields):
    version: Literal["v1", "v2"]
    idle_timeout_seconds: StrictInt
    resources: Resources
    security_context: dict[str, Any]


class AuthOptions(Fields):
    mode: Literal["disabled", "token"]


class RedisCredential(Fields):
    value_from: dict[Literal["secretKeyRef"], dict[str, StrictStr]]


class GcsFaultTolerance(Fields):
    redis_address: StrictStr
    redis_password: RedisCredential


class ClusterSpec(Fields):
    ray_version: StrictStr
    auth_options: AuthOptions
    gcs_fault_tolerance_options: GcsFaultTolerance | None = None
    enable_in_tree_autoscaling: StrictBool
    autoscaler_options: AutoscalerOptions
    head_group_spec: HeadGroup
    worker_group_specs: list[WorkerGroup]


class JobSpec(Fields):
    entrypoint: StrictStr
    backoff_limit: StrictInt
    shutdown_after_job_finishes: StrictBool
    ttl_seconds_after_finished: StrictInt
    ray_cluster_spec: ClusterSpec


class UpgradeStrategy(Fields):
    type: Literal["NewCluster", "NewClusterWithIncrementalUpgrade", "None"]


class ServiceSpec(Fields):
    exclude_head_pod_from_serve_svc: StrictBool
    upgrade_strategy: UpgradeStrategy
    serve_config_v2: StrictStr = Field(alias="serveConfigV2")
    ray_cluster_config: ClusterSpec


class Requirement(Fields):
    key: StrictStr
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[StrictStr] = Field(default_factory=list)


class Selector(Fields):
    match_labels: dict[str, StrictStr] = Field(default_factory=dict)
    match_expressions: list[Requirement] = Field(default_factory=list)


class Peer(Fields):
    namespace_selector: Selector | None = None
    pod_selector: Selector | None = None


class PolicyPort(Fields):
    port: StrictInt


class PolicyRule(Fields):
    from_: list[Peer] = Field(alias="from", min_length=1)
    ports: list[PolicyPort] = Field(default_factory=list)


class PolicySpec(Fields):
    pod_selector: Selector
    policy_types: list[Literal["Ingress", "Egress"]]
    ingress: list[PolicyRule]


class NetworkPolicy(Fields):
    api_version: Literal["networking.k8s.io/v1"]
    kind: Literal["NetworkPolicy"]
    metadata: Metadata
    spec: PolicySpec


class Tls(Fields):
    hosts: list[StrictStr]
    secret_name: Name


class HttpPath(Fields):
    path: StrictStr
    path_type: Literal["Exact", "Prefix", "ImplementationSpecific"]
    backend: dict[Literal["service"], BackendService]


class BackendService(Fields):
    name: Name
    port: dict[Literal["number"], StrictInt]


class IngressRule(Fields):
    host: StrictStr
    http: dict[Literal["paths"], list[HttpPath]]


class IngressSpec(Fields):
    ingress_class_name: Name
    tls: list[Tls]
    rules: list[IngressRule]


class Ingress(Fields):
    api_version: Literal["networking.k8s.io/v1"]
    kind: Literal["Ingress"]
    metadata: Metadata
    spec: IngressSpec


class Resource(Fields):
    api_version: Literal["ray.io/v1"]
    metadata: Metadata


class RayCluster(Resource):
    kind: Literal["RayCluster"]
    spec: ClusterSpec


class RayJob(Resource):
    kind: Literal["RayJob"]
    spec: JobSpec


class RayService(Resource):
    kind: Literal["RayService"]
    spec: ServiceSpec


KINDS: dict[str, type[RayCluster | RayJob | RayService]] = {
    "RayCluster": RayCluster,
    "RayJob": RayJob,
    "RayService": RayService,
}
EXPOSED: dict[str, type[Ingress | NetworkPolicy]] = {"Ingress": Ingress, "NetworkPolicy": NetworkPolicy}
