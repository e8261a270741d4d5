{{- define "dkim-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "dkim-operator.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains (include "dkim-operator.name" .) .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "dkim-operator.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Labels of every object; call with (list $ "component"), component may be empty. */ -}}
{{- define "dkim-operator.labels" -}}
{{- $root := index . 0 -}}
{{ include "dkim-operator.selector" . }}
app.kubernetes.io/part-of: dkim-operator
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with $root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "dkim-operator.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "dkim-operator.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
{{- with index . 1 }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end -}}

{{- /* The ServiceAccount of a component; call with (list $ "component"). */ -}}
{{- define "dkim-operator.serviceAccount" -}}
{{- $root := index . 0 -}}
{{- $component := index . 1 -}}
{{- $values := index $root.Values $component -}}
{{- default (printf "%s-%s" (include "dkim-operator.fullname" $root) $component) $values.serviceAccount.name -}}
{{- end -}}

{{- define "dkim-operator.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The namespaces in which the controller may write Secrets, as YAML. */ -}}
{{- define "dkim-operator.secretNamespaces" -}}
{{- default (list .Release.Namespace) (uniq .Values.controller.secretNamespaces) | toYaml -}}
{{- end -}}

{{- /* What the pods of all roles have in common; call with (list $ "component"). */ -}}
{{- define "dkim-operator.podMeta" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
labels:
  {{- include "dkim-operator.labels" . | nindent 2 }}
  {{- with $values.podLabels }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $values.podAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "dkim-operator.podSpec" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
serviceAccountName: {{ include "dkim-operator.serviceAccount" . }}
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile:
    type: RuntimeDefault
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "dkim-operator.container" -}}
{{- $root := index . 0 -}}
{{- $values := index $root.Values (index . 1) -}}
image: {{ include "dkim-operator.image" $root }}
imagePullPolicy: {{ $root.Values.image.pullPolicy }}
env:
  - name: DKIM_OPERATOR_LOG
    value: {{ $values.log | quote }}
  - name: DKIM_OPERATOR_LOG_FORMAT
    value: {{ $values.logFormat }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities:
    drop: [ALL]
livenessProbe:
  httpGet: { path: /healthz, port: health }
readinessProbe:
  httpGet: { path: /readyz, port: health }
  periodSeconds: 5
resources:
  {{- toYaml $values.resources | nindent 2 }}
{{- end -}}
