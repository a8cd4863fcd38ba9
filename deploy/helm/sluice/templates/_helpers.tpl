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

{{- define "sluice.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{- $variant := ternary "cuda" "cpu" (gt (int .Values.gpu.count) 0) -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s-%s" .Chart.AppVersion $variant) }}
{{- end -}}
{{- end -}}

{{- /* What gateways and meshes speak to a port; with TLS they must be told by their own policies. */}}
{{- define "sluice.grpcProtocol" -}}
{{- if not .Values.tls.existingSecret }}, appProtocol: kubernetes.io/h2c{{ end -}}
{{- end -}}

{{- define "sluice.httpProtocol" -}}
{{- if not .Values.tls.existingSecret }}, appProtocol: http{{ end -}}
{{- end -}}
