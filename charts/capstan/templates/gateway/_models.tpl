{{/* models.yaml: pools, models and mounts, made of the values' pools. */}}

{{/* The models by name, each with where it is from, as JSON; refuses a name that two have. */}}
{{- define "capstan.models" -}}
{{- $models := dict -}}
{{- $from := dict -}}
{{- $offers := list -}}
{{- range $i, $pool := include "capstan.pools" . | fromJsonArray -}}
{{- $model := dict "pool" .name -}}
{{- with .price }}{{ $_ := set $model "price" . }}{{ end -}}
{{- with .fallback }}{{ $_ := set $model "fallback" . }}{{ end -}}
{{- $described := $model -}}
{{- with .description }}{{ $described = merge (dict "description" .) $model }}{{ end -}}
{{- $offers = append $offers (list .servedName (printf "pools[%d].servedName (%s)" $i .name) $described) -}}
{{- range $j, $adapter := .adapters -}}
{{- $offers = append $offers (list .name (printf "pools[%d].adapters[%d].name (%s)" $i $j $pool.name) $model) -}}
{{- end -}}
{{- end -}}
{{- $docs := .Values.generator.modelName -}}
{{- $offers = append $offers (list $docs "generator.modelName" (dict "pool" "rag" "description" "answers from the documents, with citations")) -}}
{{- range .Values.generator.arms -}}
{{- $offers = append $offers (list (printf "%s:%s" $docs .) "generator.arms" (dict "pool" "rag")) -}}
{{- end -}}
{{- $offers = append $offers (list "reranker" "the reranker" (dict "pool" "rerank" "upstream_model" .Values.reranker.model)) -}}
{{- range $name, $model := .Values.gateway.extraModels -}}
{{- $offers = append $offers (list $name "gateway.extraModels" $model) -}}
{{- end -}}
{{- range $offers -}}
{{- $name := index . 0 -}}
{{- if hasKey $models $name }}{{ fail (printf "%s: the model name %q is served already by %s" (index . 1) $name (get $from $name)) }}{{ end -}}
{{- $_ := set $models $name (index . 2) -}}
{{- $_ := set $from $name (index . 1) -}}
{{- end -}}
{{- toJson $models -}}
{{- end -}}

{{/* The model that writes the answers. */}}
{{- define "capstan.llm" -}}
{{- $models := include "capstan.models" . | fromJson -}}
{{- $llm := default (first .Values.pools).servedName .Values.generator.llm -}}
{{- if not (hasKey $models $llm) }}{{ fail (printf "generator.llm: there is no model %q; there are %s" $llm (keys $models | sortAlpha | join ", ")) }}{{ end -}}
{{- $llm -}}
{{- end -}}

{{- define "capstan.gateway.pools" -}}
{{- $pools := dict -}}
{{- $gateways := include "capstan.gateway.least" . | int -}}
{{- range include "capstan.pools" . | fromJsonArray -}}
{{- $each := div (add (int .maxNumSeqs) (sub $gateways 1)) $gateways -}}
{{- $pool := dict "dns" (include "capstan.url" (dict "root" $ "component" "vllm-worker" "pool" .)) "max_concurrent" (max 1 $each) -}}
{{- $_ := set $pools .name (mergeOverwrite $pool .admission) -}}
{{- end -}}
{{- $url := include "capstan.url" (dict "root" . "component" "generator") -}}
{{- $_ := set $pools "rag" (dict "kind" "capstan" "urls" (list $url) "max_concurrent" .Values.generator.maxConcurrent "max_queued" 64) -}}
{{- $url = include "capstan.url" (dict "root" . "component" "reranker") -}}
{{- $_ := set $pools "rerank" (dict "kind" "capstan" "metered" true "urls" (list $url)) -}}
{{- range $name, $pool := .Values.gateway.extraPools -}}
{{- if hasKey $pools $name }}{{ fail (printf "gateway.extraPools.%s: there is a pool of that name" $name) }}{{ end -}}
{{- $_ := set $pools $name $pool -}}
{{- end -}}
{{- toYaml $pools -}}
{{- end -}}

{{- define "capstan.modelsfile" -}}
{{- $generator := include "capstan.url" (dict "root" . "component" "generator") -}}
{{- $retriever := include "capstan.url" (dict "root" . "component" "retriever") -}}
pools: {{- include "capstan.gateway.pools" . | nindent 2 }}
models: {{- include "capstan.models" . | fromJson | toYaml | nindent 2 }}
mounts:
  - {path: /, url: {{ $generator }}, public: true}
  - {path: /assets/*, url: {{ $generator }}, public: true}
  - {path: /v1/arms, url: {{ $generator }}}
  - {path: /v1/answers*, url: {{ $generator }}}
  - {path: /v1/feedback*, url: {{ $generator }}}
  - {path: /v1/interleave, url: {{ $generator }}}
  - {path: /v1/documents*, url: {{ $retriever }}, max_body_bytes: 33554432}
  - {path: /v1/files, url: {{ $retriever }}, max_body_bytes: 33554432, timeout_s: 300}
  - {path: /v1/chunks, url: {{ $retriever }}}
  - {path: /v1/index, url: {{ $retriever }}}
  - {path: /v1/search, url: {{ $retriever }}}
{{- end -}}
