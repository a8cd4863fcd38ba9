{{- /* Values that are right alone and wrong together. values.schema.json has what is wrong alone. */}}
{{- define "sluice.checks" -}}
{{- $values := .Values -}}
{{- if gt (int $values.gpu.count) 1 }}
{{- fail (printf "gpu.count is %v, must be 0 or 1: a process uses one GPU, more GPUs are more replicas" $values.gpu.count) }}
{{- end }}
{{- $own := include "sluice.env" . | fromYaml }}
{{- $settings := $values.settings | default dict }}
{{- range $name, $_ := $settings }}
{{- with index $own $name }}
{{- fail (printf "settings.%s is the chart's to set, here to %q: see %s" $name (toString .value) .see) }}
{{- end }}
{{- end }}
{{- range $variable := $values.extraEnv }}
{{- with index $own .name }}
{{- fail (printf "extraEnv's %s is the chart's to set, here to %q: see %s" $variable.name (toString .value) .see) }}
{{- end }}
{{- if hasKey $settings .name }}
{{- fail (printf "extraEnv's %s is in settings too" .name) }}
{{- end }}
{{- end }}
{{- $isOnVolume := regexMatch "^([^/]*=)?/models(/|$)" ($values.model.path | default "") }}
{{- $hasVolume := not (empty $values.model.existingClaim) }}
{{- range $values.extraVolumeMounts }}
{{- if regexMatch "^/models(/|$)" (toString .mountPath) }}{{ $hasVolume = true }}{{ end }}
{{- end }}
{{- if and $isOnVolume (not $hasVolume) }}
{{- fail (printf "model.path is %s, but nothing is mounted at /models: set model.existingClaim" $values.model.path) }}
{{- end }}
{{- if and $values.tls.clientCaSecret (not $values.tls.existingSecret) }}
{{- fail "tls.clientCaSecret asks clients for certificates, which needs TLS: set tls.existingSecret" }}
{{- end }}
{{- if and (eq $values.probes.kind "grpc") $values.tls.existingSecret }}
{{- fail "probes.kind is grpc, but the kubelet's gRPC probes speak no TLS: use http with tls.existingSecret" }}
{{- end }}
{{- if and (has (toString $values.update.maxSurge) (list "0" "0%")) (has (toString $values.update.maxUnavailable) (list "0" "0%")) }}
{{- fail "update.maxSurge and update.maxUnavailable are both 0: no pod could be replaced" }}
{{- end }}
{{- if and (eq $values.autoscaling.kind "keda") (not $values.serviceMonitor.enabled) }}
{{- fail "autoscaling.kind keda asks for the labels that the ServiceMonitor gives: set serviceMonitor.enabled" }}
{{- end }}
{{- if and $values.inferencePool.enabled $values.tls.existingSecret }}
{{- fail "inferencePool.enabled does not go with tls.existingSecret: its gateway speaks plain HTTP to the pods" }}
{{- end }}
{{- end -}}
