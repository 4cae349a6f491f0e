{{/* Checks what a schema cannot; each message names the value. */}}
{{- define "capstan.check" -}}
{{- $names := dict -}}
{{- range $i, $pool := include "capstan.pools" . | fromJsonArray -}}
{{- $at := printf "pools[%d] (%s)" $i .name -}}
{{- if hasKey $names .name }}{{ fail (printf "%s: the name %q is taken by pools[%v]" $at .name (get $names .name)) }}{{ end -}}
{{- $_ := set $names .name $i -}}
{{- if not .model }}{{ fail (printf "%s.model: name the model to serve" $at) }}{{ end -}}
{{- if not .servedName }}{{ fail (printf "%s.servedName: name the model as clients will" $at) }}{{ end -}}
{{- if and (eq .quantization.method "awq") (not .quantization.model) -}}
{{- fail (printf "%s.quantization.model: awq needs a quantized checkpoint; name it, or set quantization.method to none" $at) -}}
{{- end -}}
{{- if and .quantization.model (eq .quantization.method "none") -}}
{{- fail (printf "%s.quantization.method: is none, but quantization.model names %s; set it to awq" $at .quantization.model) -}}
{{- end -}}
{{- $most := include "capstan.most" . | int -}}
{{- if and .cache.enabled (gt $most 1) (not .cache.existingClaim) (not (has "ReadWriteMany" .cache.accessModes)) -}}
{{- fail (printf "%s.cache.accessModes: %d workers share the volume, which needs ReadWriteMany" $at $most) -}}
{{- end -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) -}}
{{- fail (printf "%s.autoscaling.minReplicas: %v is more than maxReplicas, %v" $at .autoscaling.minReplicas .autoscaling.maxReplicas) -}}
{{- end -}}
{{- range include "capstan.pool.references" . | fromJsonArray -}}
{{- if and (hasPrefix "file:/weights/" .) (not $pool.modelsClaim) -}}
{{- fail (printf "%s.modelsClaim: %s lies in /weights, which needs a claim" $at .) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $name := list "gateway" "reranker" -}}
{{- with get $.Values $name -}}
{{- if and .autoscaling.enabled (gt (int .autoscaling.minReplicas) (int .autoscaling.maxReplicas)) -}}
{{- fail (printf "%s.autoscaling.minReplicas: %v is more than maxReplicas, %v" $name .autoscaling.minReplicas .autoscaling.maxReplicas) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and (gt (int .Values.retriever.replicas) 1) (not (include "capstan.qdrant" .)) -}}
{{- fail (printf "retriever.replicas: is %v, but the embedded index has one owner; set qdrant.enabled or qdrant.external.url" .Values.retriever.replicas) -}}
{{- end -}}
{{- with .Values.redis -}}
{{- if and .enabled (or .external.url .external.existingSecret) }}{{ fail "redis.enabled: is true beside redis.external; set one of them" }}{{ end -}}
{{- if and .external.url .external.existingSecret }}{{ fail "redis.external.url: is set beside redis.external.existingSecret; set one of them" }}{{ end -}}
{{- end -}}
{{- with .Values.qdrant -}}
{{- if and .enabled .external.url }}{{ fail "qdrant.enabled: is true beside qdrant.external.url; set one of them" }}{{ end -}}
{{- end -}}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}{{ fail "httpRoute.parentRefs: name the Gateway that the route belongs to" }}{{ end -}}
{{- range $name, $run := include "capstan.runs" . | fromJson -}}
{{- with $.Values.jobs.storage -}}
{{- if and (gt (int $run.nodes) 1) (not .existingClaim) (not (has "ReadWriteMany" .accessModes)) -}}
{{- fail (printf "jobs.storage.accessModes: the %v nodes of jobs.runs.%s share the volume, which needs ReadWriteMany" $run.nodes $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}
