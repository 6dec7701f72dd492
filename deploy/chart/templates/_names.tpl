{{- define "own.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- /* 45: a CronJob -update may have 52, and pods of -redis bear its name and a hash in a label of 63. */ -}}
{{- define "own.fullname" -}}
{{- $name := include "own.name" . -}}
{{- $release := .Release.Name | replace "." "-" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" -}}
{{- else if contains $name $release -}}
{{- $release | trunc 45 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" $release $name | trunc 45 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* What selects the pods of one part: list CONTEXT PART. */ -}}
{{- define "own.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "own.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{- /* Without versions: a new one of the chart alone need not replace pods. */ -}}
{{- define "own.podLabels" -}}
{{ include "own.selector" . }}
{{- with (index . 0).Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "own.labels" -}}
{{- $root := index . 0 -}}
{{ include "own.podLabels" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "own.metadata" -}}
{{- $root := index . 0 -}}
metadata:
  name: {{ include "own.fullname" $root }}{{ index . 2 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "own.labels" . | nindent 4 }}
{{- end -}}

{{- define "own.serviceAccount" -}}
{{- default (ternary (include "own.fullname" .) "default" .Values.serviceAccount.create) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "own.secret" -}}
{{- default (include "own.fullname" .) .Values.existingSecret -}}
{{- end -}}

{{- /* The claim of the volume; empty: there is none. */ -}}
{{- define "own.claim" -}}
{{- if .Values.storage.existingClaim -}}
{{- .Values.storage.existingClaim -}}
{{- else if .Values.storage.create -}}
{{- include "own.fullname" . -}}
{{- end -}}
{{- end -}}

{{- /* The most replicas that there may be. */ -}}
{{- define "own.replicas" -}}
{{- ternary .Values.autoscaling.maxReplicas .Values.replicas .Values.autoscaling.enabled | int -}}
{{- end -}}

{{- /* A number or a word as an environment variable has it: 4194304, not 4.194304e+06. */ -}}
{{- define "own.text" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) -}}{{ int64 . }}{{- else -}}{{ . }}{{- end -}}
{{- end -}}
