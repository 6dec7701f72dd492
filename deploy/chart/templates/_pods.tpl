{{- /* What the pods of the service and of the job have alike. */ -}}
{{- define "own.podSecurity" -}}
serviceAccountName: {{ include "own.serviceAccount" . }}
automountServiceAccountToken: false
# a Service called serving would put SERVING_PORT into the environment, which the service refuses
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile:
    type: RuntimeDefault
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "own.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
{{- end -}}

{{- /* A variable out of the Secret: list CONTEXT NAME OPTIONAL. */ -}}
{{- define "own.secretVariable" -}}
- name: {{ index . 1 }}
  valueFrom:
    secretKeyRef:
      name: {{ include "own.secret" (index . 0) }}
      key: {{ index . 1 }}
      {{- if index . 2 }}
      optional: true
      {{- end }}
{{- end -}}

{{- define "own.environment" -}}
- name: HOME  # for libraries that store something there
  value: /tmp
- name: SERVING_EXPORT
  value: {{ printf "/exports/%s" (ternary "image" .Values.export.path (not (empty .Values.export.image))) }}
- name: SERVING_KEPT
  value: /state/served
- name: MILVUS_URI
  value: {{ .Values.milvus.uri | quote }}
{{ include "own.secretVariable" (list . "MILVUS_TOKEN" true) }}
{{- if .Values.open }}
- name: SERVING_OPEN
  value: "1"
{{- end }}
{{ include "own.secretVariable" (list . "SERVING_KEYS" .Values.open) }}
{{- if eq .Values.redis.kind "own" }}
{{ include "own.secretVariable" (list . "REDIS_PASSWORD" false) }}
- name: SERVING_HISTORIES
  value: redis://:$(REDIS_PASSWORD)@{{ include "own.fullname" . }}-redis:6379/0
{{- else if eq .Values.redis.kind "external" }}
{{ include "own.secretVariable" (list . "SERVING_HISTORIES" false) }}
{{- end }}
{{- if .Values.hosts }}
{{- $name := include "own.fullname" . }}
{{- $space := printf "%s.%s" $name .Release.Namespace }}
- name: POD_IP  # Prometheus calls a pod by its address
  valueFrom:
    fieldRef:
      fieldPath: status.podIP
- name: SERVING_HOSTS
  value: {{ printf "%s,%s,%s,%s.svc,%s.svc.cluster.local,$(POD_IP)" (join "," .Values.hosts) $name $space $space $space | quote }}
{{- end }}
{{- with .Values.cors }}
- name: SERVING_CORS
  value: {{ join "," . | quote }}
{{- end }}
{{ include "own.secretVariable" (list . "SERVING_SHOWN_SECRET" true) }}
{{- range $name, $value := .Values.settings }}
- name: {{ $name }}
  value: {{ include "own.text" $value | quote }}
{{- end }}
{{- end -}}
