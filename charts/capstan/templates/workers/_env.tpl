{{/* A worker's environment: (dict "root" $ "pool" …). What vLLM compiles goes to the cache, too. */}}
{{- define "capstan.worker.env" -}}
{{- $pool := .pool -}}
{{- $own := dict "CAPSTAN_DRAIN_S" .root.Values.drain.seconds
  "CAPSTAN_WORKER_MODEL" (include "capstan.pool.model" $pool)
  "CAPSTAN_WORKER_SERVED_MODEL_NAME" $pool.servedName
  "CAPSTAN_WORKER_DEVICE" (ternary "cuda" "cpu" (gt (int $pool.gpus) 0))
  "CAPSTAN_WORKER_MAX_NUM_SEQS" $pool.maxNumSeqs
  "XDG_CACHE_HOME" "/cache" -}}
{{- if not $pool.gpus }}{{ $_ := set $own "CAPSTAN_WORKER_KV_CACHE_GIB" $pool.kvCacheGib }}{{ end -}}
{{- with $pool.maxModelLen }}{{ $_ := set $own "CAPSTAN_WORKER_MAX_MODEL_LEN" . }}{{ end -}}
{{- if $pool.adapters -}}
{{- $pairs := list -}}
{{- range $pool.adapters }}{{ $pairs = append $pairs (printf "%s=%s" .name .reference) }}{{ end -}}
{{- $_ := set $own "CAPSTAN_WORKER_ADAPTERS" (join "," $pairs) -}}
{{- end -}}
{{- if or $pool.adapters $pool.loraSlots -}}
{{- $_ := set $own "CAPSTAN_WORKER_LORA_SLOTS" (default (len $pool.adapters) (int $pool.loraSlots)) -}}
{{- $_ := set $own "CAPSTAN_WORKER_MAX_LORA_RANK" $pool.maxLoraRank -}}
{{- end -}}
{{- $arguments := $pool.engineArgs -}}
{{- if and (gt (int $pool.gpus) 1) (not (regexMatch "(-tp|--tensor-parallel-size)\\b" $arguments)) -}}
{{- $arguments = trim (printf "--tensor-parallel-size %d %s" (int $pool.gpus) $arguments) -}}
{{- end -}}
{{- with $arguments }}{{ $_ := set $own "CAPSTAN_WORKER_ENGINE_ARGS" . }}{{ end -}}
{{- $at := printf "pools (%s)" $pool.name -}}
{{- include "capstan.env" (dict "root" .root "prefix" "CAPSTAN_WORKER" "at" $at "values" $pool "own" $own) -}}
{{- with .root.Values.worker.hubToken }}
{{- if .existingSecret }}
- name: HF_TOKEN
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: {{ .key }}}}
{{- end }}
{{- end }}
{{- end -}}
