{{/* A value as text: Helm holds numbers as floats, and would write 4194304 as 4.194304e+06. */}}
{{- define "capstan.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end -}}
{{- end -}}

{{/*
A container's environment: (dict "root" $ "prefix" "CAPSTAN_GATEWAY" "at" "gateway" "values" .Values.gateway "own" (dict …)).
`own`: what the chart sets, by name; then come the settings and extraEnv of the values. A name given twice is refused:
of two, Kubernetes takes the last, and server-side apply neither.
*/}}
{{- define "capstan.env" -}}
{{- $values := .root.Values -}}
{{- $env := dict "CAPSTAN_LOG_LEVEL" $values.logLevel "CAPSTAN_CACHE_DIR" "/cache" -}}
{{- with $values.telemetry -}}
{{- if .otlpEndpoint -}}
{{- $_ := set $env "OTEL_EXPORTER_OTLP_ENDPOINT" .otlpEndpoint -}}
{{- $_ := set $env "OTEL_TRACES_SAMPLER" "parentbased_traceidratio" -}}
{{- $_ := set $env "OTEL_TRACES_SAMPLER_ARG" .sampleRatio -}}
{{- end -}}
{{- end -}}
{{- $env = mergeOverwrite $env .own -}}
{{- range $name, $value := .values.settings -}}
{{- $full := printf "%s_%s" $.prefix $name -}}
{{- if hasKey $env $full }}{{ fail (printf "%s.settings.%s: the chart sets it itself" $.at $name) }}{{ end -}}
{{- $_ := set $env $full $value -}}
{{- end -}}
{{- range $name, $value := $env }}
- {name: {{ $name }}, value: {{ include "capstan.text" $value | quote }}}
{{- end }}
{{- range .values.extraEnv }}
{{- if hasKey $env .name }}{{ fail (printf "%s.extraEnv: %s is set twice" $.at .name) }}{{ end }}
{{- $_ := set $env .name "" }}
- {{ toYaml . | nindent 2 | trim }}
{{- end }}
{{- end -}}

{{/*
As many threads as CPUs are requested, where the settings do not say: a process sees all CPUs of its node.
(dict "prefix" … "name" "THREADS" "values" …)
*/}}
{{- define "capstan.threads" -}}
{{- if not (hasKey .values.settings .name) -}}
- name: {{ .prefix }}_{{ .name }}
  valueFrom: {resourceFieldRef: {resource: requests.cpu}}
{{- end -}}
{{- end -}}
