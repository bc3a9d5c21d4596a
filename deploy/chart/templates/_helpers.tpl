{{- define "vm-import.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* The release's name when that says it already, as the charts of Harvester do. 52: suffixes follow. */}}
{{- define "vm-import.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- $name := default .Chart.Name .Values.nameOverride }}
{{- ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "vm-import.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "vm-import.fullname" .) "default" .Values.serviceAccount.create) }}
{{- end }}

{{- /* Immutable in a Deployment, and Harvester looks for the first one. */}}
{{- define "vm-import.selector" -}}
app.kubernetes.io/name: {{ include "vm-import.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vm-import.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "vm-import.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "vm-import.scratchClass" -}}
{{- .Values.pvcClaim.storageClass | default .Values.pvcClaim.storageClassName }}
{{- end }}
