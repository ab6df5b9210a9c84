{{/* Name of a part of this release. */}}
{{- define "evergreen.name" -}}
{{ printf "%s-%s" .root.Release.Name .part | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "evergreen.selector" -}}
app.kubernetes.io/name: evergreen
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "evergreen.labels" -}}
{{ include "evergreen.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{/* Environment of every container: the lake, the home, the key of the units' hashes, evergreen.toml. */}}
{{- define "evergreen.environment" -}}
- {name: EVERGREEN_HOME, value: /var/evergreen}
- {name: EVERGREEN_LAKE, value: {{ .Values.lake | quote }}}
- name: EVERGREEN_SECRET
  valueFrom: {secretKeyRef: {name: {{ .Values.existingSecret }}, key: units}}
{{- if .Values.config }}
- {name: EVERGREEN_CONFIG, value: /etc/evergreen/evergreen.toml}
{{- end }}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}

{{- define "evergreen.pod" -}}
serviceAccountName: {{ include "evergreen.name" (dict "root" . "part" "lake") }}
automountServiceAccountToken: false
enableServiceLinks: false  # a service named evergreen-router would set EVERGREEN_ROUTER_PORT, which is a setting
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "evergreen.container" -}}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
volumeMounts:
  - {name: home, mountPath: /var/evergreen}
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.config }}
  - {name: config, mountPath: /etc/evergreen, readOnly: true}
  {{- end }}
{{- end }}

{{- define "evergreen.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- if .Values.config }}
- name: config
  configMap: {name: {{ include "evergreen.name" (dict "root" . "part" "config") }}}
{{- end }}
{{- end }}
