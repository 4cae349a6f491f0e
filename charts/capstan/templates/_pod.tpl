{{/* What all pods share: (dict "root" $ "component" … "values" … "grace" seconds). Ours run as 10001. */}}
{{- define "capstan.pod" -}}
serviceAccountName: {{ include "capstan.fullname" .root }}-{{ .component }}
automountServiceAccountToken: false
# Else a Service named capstan-gateway sets CAPSTAN_GATEWAY_PORT to tcp://…, which is a setting of ours.
enableServiceLinks: false
terminationGracePeriodSeconds: {{ .grace }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ default 10001 .user }}
  runAsGroup: {{ default 10001 .user }}
  fsGroup: {{ default 10001 .user }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- $tolerations := .values.tolerations }}
{{- if .values.gpus }}
{{- $tolerations = append $tolerations (dict "key" .root.Values.worker.gpuResource "operator" "Exists" "effect" "NoSchedule") }}
{{- with .root.Values.worker.gpuRuntimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- end }}
{{- with $tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Replicas on different nodes and zones where that can be. */}}
{{- define "capstan.spread" -}}
topologySpreadConstraints:
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
  - topologyKey: {{ $key }}
    maxSkew: 1
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "capstan.selector" $ | nindent 8 }}
    matchLabelKeys: [pod-template-hash]
{{- end }}
{{- end -}}

{{- define "capstan.grace" -}}
{{- with .Values.drain }}{{ add .preStopSeconds .delaySeconds .seconds .marginSeconds }}{{ end -}}
{{- end -}}

{{/*
A pod's labels, with "labels" on top, and annotations, with "checksums" by name, so that a change of configuration is a
rollout. No version of the chart: a new chart with the same image restarts no worker.
*/}}
{{- define "capstan.pod.metadata" -}}
labels: {{- include "capstan.selector" . | nindent 2 }}
{{- with merge (dict) (default (dict) .labels) .root.Values.commonLabels }}
{{- toYaml . | nindent 2 }}
{{- end }}
{{- $annotations := merge (dict) (default (dict) .checksums) .root.Values.podAnnotations }}
{{- with $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "capstan.container.security" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* A service of ours: image, security, port, drain and probes. (dict "root" $ "component" … "image" … "live" "/healthz" "ready" "/readyz" "startup" seconds) */}}
{{- define "capstan.container" -}}
name: {{ .component }}
image: {{ include "capstan.image" (dict "root" .root "image" .image "own" true) }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
{{ include "capstan.container.security" . }}
ports:
  - {name: http, containerPort: {{ include "capstan.port" .component }}}
lifecycle:
  preStop: {sleep: {seconds: {{ .root.Values.drain.preStopSeconds }}}}
startupProbe:
  httpGet: {path: {{ .live }}, port: http}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: {{ div (add .startup 4) 5 }}
livenessProbe:
  # Of the process alone: that a peer is down is no reason to restart this one.
  httpGet: {path: {{ .live }}, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: {{ .ready }}, port: http}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 2
{{- end -}}

{{/* Volumes: /tmp, /cache, and the secrets as files under /run/secrets. "secrets": {secret: [key, …]}; "cacheClaim". */}}
{{- define "capstan.volumes" -}}
- name: tmp
  emptyDir: {medium: Memory, sizeLimit: {{ default "512Mi" .tmp }}}
- name: cache
{{- if .cacheClaim }}
  persistentVolumeClaim: {claimName: {{ .cacheClaim }}}
{{- else }}
  emptyDir: {}
{{- end }}
{{- with .secrets }}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
    {{- range $secret, $keys := . }}
      - secret:
          name: {{ $secret }}
          items:
          {{- range $keys }}
            - {key: {{ . }}, path: {{ . }}}
          {{- end }}
    {{- end }}
{{- end }}
{{- end -}}

{{- define "capstan.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: cache, mountPath: /cache}
{{- if .secrets }}
- {name: secrets, mountPath: /run/secrets, readOnly: true}
{{- end }}
{{- end -}}

{{/* The volume of a component's state at /data: (dict "name" … "persistence" …). */}}
{{- define "capstan.data" -}}
- name: data
{{- if .persistence.enabled }}
  persistentVolumeClaim: {claimName: {{ default .name .persistence.existingClaim }}}
{{- else }}
  emptyDir: {}
{{- end }}
{{- end -}}

{{/* Resources with GPUs: (dict "root" $ "values" …). */}}
{{- define "capstan.resources" -}}
{{- $resources := deepCopy .values.resources -}}
{{- if .values.gpus -}}
{{- $_ := set $resources "limits" (merge (dict .root.Values.worker.gpuResource .values.gpus) (default (dict) $resources.limits)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* A claim, kept when the release is uninstalled: (dict "root" $ "component" … "name" … "persistence" …). */}}
{{- define "capstan.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  labels: {{- include "capstan.labels" . | nindent 4 }}
  annotations: {helm.sh/resource-policy: keep}
spec:
  accessModes: {{- toYaml .persistence.accessModes | nindent 4 }}
  {{- with .persistence.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources: {requests: {storage: {{ .persistence.size }}}}
{{- end -}}

{{/* A Service of a component: "headless" for one address per pod. */}}
{{- define "capstan.service" -}}
apiVersion: v1
kind: Service
metadata: {{- include "capstan.metadata" . | nindent 2 }}
spec:
  {{- if .headless }}
  clusterIP: None
  {{- end }}
  selector: {{- include "capstan.selector" . | nindent 4 }}
  ports:
    - {name: http, port: {{ include "capstan.port" .component }}, targetPort: http}
{{- end -}}

{{/* Scaling by CPU. */}}
{{- define "capstan.hpa" -}}
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{- include "capstan.metadata" . | nindent 2 }}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: {{ include "capstan.object" . }}}
  minReplicas: {{ .values.autoscaling.minReplicas }}
  maxReplicas: {{ .values.autoscaling.maxReplicas }}
  metrics:
    - type: Resource
      resource: {name: cpu, target: {type: Utilization, averageUtilization: {{ .values.autoscaling.cpuPercent }}}}
  behavior:
    # A stopped gateway or reranker takes its caches and its drain with it: down slowly, one at a time.
    scaleDown:
      stabilizationWindowSeconds: 300
      policies: [{type: Pods, value: 1, periodSeconds: 120}]
{{- end -}}

{{/* The data volume of a StatefulSet: a claim by template, which outlives the release, or nothing that lasts. */}}
{{- define "capstan.stateful.data" -}}
{{- if not .persistence.enabled }}
- name: data
  emptyDir: {}
{{- end }}
{{- end -}}

{{- define "capstan.stateful.claim" -}}
{{- if .persistence.enabled }}
volumeClaimTemplates:
  - metadata: {name: data}
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .persistence.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources: {requests: {storage: {{ .persistence.size }}}}
{{- end }}
{{- end -}}
