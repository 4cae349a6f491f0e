{{/* Names and labels. A context is (dict "root" $ "component" "gateway"), for a worker also "pool". */}}

{{- define "capstan.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 32 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 32 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* Name of a component's objects: capstan-gateway, capstan-vllm-worker-llm. */}}
{{- define "capstan.object" -}}
{{- $name := printf "%s-%s" (include "capstan.fullname" .root) .component -}}
{{- ternary (printf "%s-%s" $name (.pool).name) $name (hasKey . "pool") -}}
{{- end -}}

{{/* What selects a component's pods, and nothing that changes. */}}
{{- define "capstan.selector" -}}
app.kubernetes.io/name: capstan
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- with .pool }}
capstan/pool: {{ .name }}
{{- end }}
{{- end -}}

{{- define "capstan.labels" -}}
{{ include "capstan.selector" . }}
app.kubernetes.io/part-of: capstan
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "capstan.metadata" -}}
name: {{ include "capstan.object" . }}
labels: {{- include "capstan.labels" . | nindent 2 }}
{{- end -}}

{{/* An image: (dict "root" $ "image" .Values.gateway.image "own" true). Ours take registry and tag from `image`. */}}
{{- define "capstan.image" -}}
{{- $shared := .root.Values.image -}}
{{- $tag := .image.tag -}}
{{- $repository := .image.repository -}}
{{- if .own -}}
{{- $tag = coalesce .image.tag $shared.tag .root.Chart.AppVersion -}}
{{- with $shared.registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" .) $repository }}{{ end -}}
{{- end -}}
{{- if .image.digest }}{{ $repository }}@{{ .image.digest }}{{ else }}{{ $repository }}:{{ $tag }}{{ end -}}
{{- end -}}

{{/* The port that a component listens on. */}}
{{- define "capstan.port" -}}
{{- get (dict "gateway" 8000 "retriever" 8001 "reranker" 8002 "generator" 8003 "vllm-worker" 8004 "redis" 6379 "qdrant" 6333) . -}}
{{- end -}}

{{- define "capstan.url" -}}
http://{{ include "capstan.object" . }}:{{ include "capstan.port" .component }}
{{- end -}}

{{/* For arguments of jobs, which are templates. */}}
{{- define "capstan.gateway.url" -}}{{ include "capstan.url" (dict "root" . "component" "gateway") }}{{- end -}}
{{- define "capstan.retriever.url" -}}{{ include "capstan.url" (dict "root" . "component" "retriever") }}{{- end -}}
{{- define "capstan.reranker.url" -}}{{ include "capstan.url" (dict "root" . "component" "reranker") }}{{- end -}}
{{- define "capstan.generator.url" -}}{{ include "capstan.url" (dict "root" . "component" "generator") }}{{- end -}}

{{/* The pools, each with its defaults, as JSON: include "capstan.pools" . | fromJsonArray */}}
{{- define "capstan.pools" -}}
{{- $pools := list -}}
{{- range .Values.pools -}}
{{- $pools = append $pools (mergeOverwrite (deepCopy $.Values.poolDefaults) .) -}}
{{- end -}}
{{- toJson $pools -}}
{{- end -}}

{{/* The jobs that are on, by name, each with its defaults, as JSON. */}}
{{- define "capstan.runs" -}}
{{- $runs := dict -}}
{{- range $name, $run := .Values.jobs.runs -}}
{{- $run = mergeOverwrite (deepCopy $.Values.jobs.defaults) $run -}}
{{- if $run.enabled }}{{ $_ := set $runs $name $run }}{{ end -}}
{{- end -}}
{{- toJson $runs -}}
{{- end -}}

{{/* The reference that a pool's workers load. */}}
{{- define "capstan.pool.model" -}}
{{- ternary .quantization.model .model (eq .quantization.method "awq") -}}
{{- end -}}

{{/* What a pool's workers load: model and adapters, as JSON. A simulated worker loads nothing. */}}
{{- define "capstan.pool.references" -}}
{{- $references := list -}}
{{- if not .simulate -}}
{{- $references = list (include "capstan.pool.model" .) -}}
{{- range .adapters }}{{ $references = append $references .reference }}{{ end -}}
{{- end -}}
{{- toJson $references -}}
{{- end -}}

{{/* Least and most gateways. */}}
{{- define "capstan.gateway.least" -}}
{{- with .Values.gateway }}{{ ternary .autoscaling.minReplicas .replicas .autoscaling.enabled | int }}{{ end -}}
{{- end -}}
{{- define "capstan.gateway.most" -}}
{{- with .Values.gateway }}{{ ternary .autoscaling.maxReplicas .replicas .autoscaling.enabled | int }}{{ end -}}
{{- end -}}

{{/* Most replicas that a component with `replicas` and perhaps `autoscaling` may have. */}}
{{- define "capstan.most" -}}
{{- if (.autoscaling).enabled }}{{ int .autoscaling.maxReplicas }}{{ else }}{{ int .replicas }}{{ end -}}
{{- end -}}

{{/* Whether quotas are shared, and vectors on a server; "true" or nothing. */}}
{{- define "capstan.redis" -}}
{{- with .Values.redis }}{{ if or .enabled .external.url .external.existingSecret }}true{{ end }}{{ end -}}
{{- end -}}
{{- define "capstan.qdrant" -}}
{{- with .Values.qdrant }}{{ if or .enabled .external.url }}true{{ end }}{{ end -}}
{{- end -}}

{{/* Secret of identity, admin key, tenants and the first key. */}}
{{- define "capstan.secret" -}}
{{- default (include "capstan.fullname" .) .Values.secrets.existingSecret -}}
{{- end -}}
