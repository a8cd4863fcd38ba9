{{- define "sluice.name" -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "sluice.selector" -}}
app.kubernetes.io/name: sluice
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sluice.labels" -}}
{{ include "sluice.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/component: inference
{{- end -}}

{{- define "sluice.device" -}}
{{- ternary "cuda" "cpu" (gt (int .Values.gpu.count) 0) -}}
{{- end -}}

{{- define "sluice.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s-%s" .Chart.AppVersion (include "sluice.device" .)) }}
{{- end -}}
{{- end -}}

{{- /* What gateways and meshes speak to a port; with TLS they must be told by their own policies. */}}
{{- define "sluice.grpcProtocol" -}}
{{- if not .Values.tls.existingSecret }}, appProtocol: kubernetes.io/h2c{{ end -}}
{{- end -}}

{{- define "sluice.httpProtocol" -}}
{{- if not .Values.tls.existingSecret }}, appProtocol: http{{ end -}}
{{- end -}}

{{- /*
The variables that only the chart sets (_checks.tpl): the value, and what decides it. A pod has no variable whose value is
empty. SLUICE_INSECURE: the admin port is plain even with TLS; the NetworkPolicy keeps it to monitoring.
*/}}
{{- define "sluice.env" -}}
SLUICE_ADMIN_ADDRESS: {value: "0.0.0.0:8081", see: networkPolicy.monitoring}
SLUICE_API_KEYS: {value: "{{ if .Values.apiKeys.existingSecret }}/keys/keys{{ end }}", see: apiKeys.existingSecret}
SLUICE_DEVICE: {value: {{ include "sluice.device" . }}, see: gpu.count}
SLUICE_DRAIN_TIME: {value: {{ .Values.shutdown.drain }}s, see: shutdown.drain}
SLUICE_GRPC_ADDRESS: {value: "0.0.0.0:50051", see: service.grpcPort}
SLUICE_HTTP_ADDRESS: {value: "0.0.0.0:8080", see: service.httpPort}
SLUICE_INSECURE: {value: "true", see: tls.existingSecret}
SLUICE_LAME_DUCK_TIME: {value: {{ .Values.shutdown.lameDuck }}s, see: shutdown.lameDuck}
SLUICE_MODEL: {value: {{ toJson .Values.model.path }}, see: model.path}
SLUICE_SERVED_MODEL_NAME: {value: {{ toJson .Values.model.servedName }}, see: model.servedName}
SLUICE_TLS_CERT: {value: "{{ if .Values.tls.existingSecret }}/tls/tls.crt{{ end }}", see: tls.existingSecret}
SLUICE_TLS_CLIENT_CA: {value: "{{ if .Values.tls.clientCaSecret }}/client-ca/ca.crt{{ end }}", see: tls.clientCaSecret}
SLUICE_TLS_KEY: {value: "{{ if .Values.tls.existingSecret }}/tls/tls.key{{ end }}", see: tls.existingSecret}
{{- end -}}

{{- /* A number of a values file is a float here, and `quote` alone would write 1e+06. */}}
{{- define "sluice.text" -}}
{{- if kindIs "string" . }}{{ . | quote }}{{ else }}{{ toJson . | quote }}{{ end -}}
{{- end -}}

{{- /* dict: probes (the values), name, path (below /health/), service (of gRPC's health service). */}}
{{- define "sluice.probe" -}}
{{- $own := index .probes .name -}}
{{- if eq .probes.kind "grpc" -}}
grpc: {port: 50051, service: {{ .service }}}
{{- else -}}
httpGet: {path: /health/{{ .path }}, port: admin}
{{- end }}
periodSeconds: {{ $own.periodSeconds }}
failureThreshold: {{ $own.failureThreshold }}
timeoutSeconds: {{ .probes.timeoutSeconds }}
{{- end -}}
