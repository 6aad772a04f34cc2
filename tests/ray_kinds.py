"""The fields that KubeRay 1.7 knows in its own kinds, as types that refuse any other."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Template = dict[str, Any]  # a pod template, which Kubernetes' own schema checks
Start = dict[str, str]


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class AuthOptions(Strict):
    mode: Literal["token", "disabled"]
    secretName: str | None = None


class AutoscalerOptions(Strict):
    version: Literal["v1", "v2"] | None = None
    resources: dict[str, Any] | None = None
    image: str | None = None
    imagePullPolicy: str | None = None
    env: list[dict[str, Any]] = []
    envFrom: list[dict[str, Any]] = []
    volumeMounts: list[dict[str, Any]] = []
    securityContext: dict[str, Any] | None = None
    idleTimeoutSeconds: int | None = None
    upscalingMode: Literal["Default", "Aggressive", "Conservative"] | None = None


class HeadGroup(Strict):
    template: Template
    rayStartParams: Start = {}
    serviceType: Literal["ClusterIP", "NodePort", "LoadBalancer"] = "ClusterIP"
    headService: dict[str, Any] | None = None
    enableIngress: bool = False


class WorkerGroup(Strict):
    groupName: str = Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")
    template: Template
    rayStartParams: Start = {}
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int
    numOfHosts: int = 1
    idleTimeoutSeconds: int | None = None

    @model_validator(mode="after")
    def _in_order(self) -> "WorkerGroup":
        assert self.minReplicas <= self.replicas <= self.maxReplicas
        return self


class ClusterSpec(Strict):
    headGroupSpec: HeadGroup
    workerGroupSpecs: list[WorkerGroup]
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool = False
    autoscalerOptions: AutoscalerOptions | None = None
    headServiceAnnotations: dict[str, str] = {}
    suspend: bool = False

    def templates(self) -> list[Template]:
        return [self.headGroupSpec.template, *(g.template for g in self.workerGroupSpecs)]


class Condition(Strict):
    jobStatus: Literal["SUCCEEDED", "FAILED"] | None = None
    jobDeploymentStatus: Literal["Failed"] | None = None
    ttlSeconds: int = Field(ge=0)

    @model_validator(mode="after")
    def _one_of_two(self) -> "Condition":
        assert (self.jobStatus is None) != (self.jobDeploymentStatus is None)
        return self


class DeletionRule(Strict):
    policy: Literal["DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone"]
    condition: Condition


class DeletionStrategy(Strict):
    deletionRules: list[DeletionRule] = Field(min_length=1)


class SubmitterConfig(Strict):
    backoffLimit: int = Field(ge=0)


class JobSpec(Strict):
    entrypoint: str
    rayClusterSpec: ClusterSpec
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    submitterPodTemplate: Template
    submitterConfig: SubmitterConfig
    backoffLimit: int = Field(ge=0)
    activeDeadlineSeconds: int = Field(gt=0)
    deletionStrategy: DeletionStrategy
    metadata: dict[str, str] = {}
    runtimeEnvYAML: str = ""
    suspend: bool = False


class CronJobSpec(Strict):
    schedule: str = Field(pattern=r"^(\S+ ){4}\S+$")
    timeZone: str
    suspend: bool = False
    jobTemplate: JobSpec


SPECS: dict[str, type[Strict]] = {
    "RayCluster": ClusterSpec,
    "RayJob": JobSpec,
    "RayCronJob": CronJobSpec,
}
