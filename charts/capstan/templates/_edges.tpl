{{/*
Who talks to whom: the one list that the network policies of both ends are made of, as JSON. `to` is a component of the
release or, outside of it, one of redis, qdrant, otlp, hub. A test derives the same list from the services' settings.
*/}}
{{- define "capstan.edges" -}}
{{- $values := .Values -}}
{{- $edges := list (list "gateway" "vllm-worker") (list "gateway" "generator") (list "gateway" "reranker")
  (list "gateway" "retriever") (list "generator" "gateway") (list "generator" "retriever")
  (list "generator" "reranker") (list "test" "gateway") -}}
{{- if include "capstan.redis" . }}{{ $edges = append $edges (list "gateway" "redis") }}{{ end -}}
{{- if include "capstan.qdrant" . }}{{ $edges = append $edges (list "retriever" "qdrant") }}{{ end -}}
{{- if $values.gateway.extraPools }}{{ $edges = append $edges (list "gateway" "hub") }}{{ end -}}
{{- $models := dict "retriever" (list $values.retriever.model) "reranker" (list $values.reranker.model) "vllm-worker" list -}}
{{- range include "capstan.pools" . | fromJsonArray -}}
{{- $_ := set $models "vllm-worker" (concat (get $models "vllm-worker") (include "capstan.pool.references" . | fromJsonArray)) -}}
{{- end -}}
{{- range $component, $references := $models -}}
{{- $fetched := false -}}
{{- range $references }}{{ if hasPrefix "hf:" . }}{{ $fetched = true }}{{ end }}{{ end -}}
{{- if $fetched }}{{ $edges = append $edges (list $component "hub") }}{{ end -}}
{{- end -}}
{{- if $values.telemetry.otlpEndpoint -}}
{{- range list "gateway" "retriever" "reranker" "generator" "vllm-worker" }}{{ $edges = append $edges (list . "otlp") }}{{ end -}}
{{- end -}}
{{- range $name, $run := include "capstan.runs" . | fromJson -}}
{{- $job := printf "job-%s" $name -}}
{{- range .talksTo }}{{ $edges = append $edges (list $job .) }}{{ end -}}
{{- if .hub }}{{ $edges = append $edges (list $job "hub") }}{{ end -}}
{{- if gt (int .nodes) 1 }}{{ $edges = append $edges (list $job $job) }}{{ end -}}
{{- if $values.telemetry.otlpEndpoint }}{{ $edges = append $edges (list $job "otlp") }}{{ end -}}
{{- end -}}
{{- toJson $edges -}}
{{- end -}}

{{/* Components with pods, as JSON. */}}
{{- define "capstan.components" -}}
{{- $all := list "gateway" "retriever" "reranker" "generator" "vllm-worker" "test" -}}
{{- if .Values.redis.enabled }}{{ $all = append $all "redis" }}{{ end -}}
{{- if .Values.qdrant.enabled }}{{ $all = append $all "qdrant" }}{{ end -}}
{{- range $name, $_ := include "capstan.runs" . | fromJson }}{{ $all = append $all (printf "job-%s" $name) }}{{ end -}}
{{- toJson $all -}}
{{- end -}}

{{/* A rule to where an edge leads: (dict "root" $ "to" …). */}}
{{- define "capstan.egress" -}}
{{- $values := .root.Values -}}
{{- if has .to (include "capstan.components" .root | fromJsonArray) -}}
- to: [{podSelector: {matchLabels: {{ include "capstan.selector" (dict "root" .root "component" .to) | fromYaml | toJson }}}}]
  {{- if not (hasPrefix "job-" .to) }}
  ports: [{port: {{ include "capstan.port" .to }}}]
  {{- end }}
{{- else -}}
{{- $peers := get (dict "redis" $values.redis.external.peers "qdrant" $values.qdrant.external.peers "otlp" $values.telemetry.peers "hub" $values.networkPolicy.hub) .to -}}
{{- $port := get (dict "redis" $values.redis.external.port "qdrant" $values.qdrant.external.port "otlp" $values.telemetry.port "hub" 443) .to -}}
- ports: [{port: {{ $port }}}]
  {{- with $peers }}
  to: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
{{- end -}}
