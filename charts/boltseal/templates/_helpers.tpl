{{/* The name of everything: the release's, with the chart's where it does not contain it. */}}
{{- define "boltseal.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* What the Pods of the server are selected by. It must never change: a Deployment's selector cannot. */}}
{{- define "boltseal.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: server
{{- end -}}

{{- define "boltseal.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_")
  "app.kubernetes.io/version" .Chart.AppVersion
  "app.kubernetes.io/managed-by" .Release.Service
  "app.kubernetes.io/part-of" "boltseal" -}}
{{- toYaml (merge (dict) (include "boltseal.selector" . | fromYaml) $own .Values.commonLabels) -}}
{{- end -}}

{{/* metadata: name, namespace (where it is not ""), labels, annotations. Call with dict root, name, namespaced,
     labels, annotations; all but root may be left out. */}}
{{- define "boltseal.metadata" -}}
name: {{ default (include "boltseal.fullname" .root) .name }}
{{- if ne (toString .namespaced) "false" }}
namespace: {{ default .root.Release.Namespace .namespace }}
{{- end }}
labels:
  {{- toYaml (merge (dict) (default (dict) .labels) (include "boltseal.labels" .root | fromYaml)) | nindent 2 }}
{{- with merge (dict) (default (dict) .annotations) (default (dict) .root.Values.commonAnnotations) }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "boltseal.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- with .Values.image -}}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ $tag }}{{ end -}}
{{- end -}}
{{- end -}}

{{- define "boltseal.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "boltseal.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What this cluster is called at its hub. */}}
{{- define "boltseal.clusterName" -}}
{{- with .Values.governance -}}
{{- if and .hubKubeconfigSecret (not .clusterName) -}}
{{- fail "governance.hubKubeconfigSecret needs governance.clusterName: the name of this cluster at the hub" -}}
{{- end -}}
{{- default "local" .clusterName -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the way to a hub elsewhere; "" for none. */}}
{{- define "boltseal.hubSecret" -}}
{{- with .Values.governance -}}
{{- if .enabled -}}{{- .hubKubeconfigSecret -}}{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret with the URL that is notified; "" for none. */}}
{{- define "boltseal.notifySecret" -}}
{{- with .Values.governance -}}
{{- if .enabled -}}
{{- if and .hubKubeconfigSecret .notifySecret -}}
{{- fail "governance.notifySecret is for the hub, and with governance.hubKubeconfigSecret the hub is elsewhere" -}}
{{- end -}}
{{- .notifySecret -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The Secret that Boltseal keeps its own certificate in; "" where it is yours. */}}
{{- define "boltseal.tlsSecret" -}}
{{- if not .Values.tls.existingSecret -}}
{{- default (printf "%s-serving" (include "boltseal.fullname" .)) .Values.tls.secretName -}}
{{- end -}}
{{- end -}}

{{/* Without Gatekeeper, nobody may ask as Gatekeeper: the CA that would let somebody in is in a Secret that is not
     there, beside Boltseal. */}}
{{- define "boltseal.gatekeeperCA" -}}
{{- if .Values.gatekeeper.enabled -}}
{{- .Values.gatekeeper.namespace }}/{{ .Values.gatekeeper.caSecret -}}
{{- else -}}
{{- .Release.Namespace }}/{{ include "boltseal.fullname" . }}-gatekeeper-ca
{{- end -}}
{{- end -}}

{{/* Names of the Providers that get Boltseal's CA, comma-separated. */}}
{{- define "boltseal.providers" -}}
{{- if .Values.gatekeeper.enabled -}}
{{- join "," (list .Values.gatekeeper.provider.name .Values.gatekeeper.mutationProvider.name | uniq) -}}
{{- else -}}
none
{{- end -}}
{{- end -}}

{{- define "boltseal.crdJob" -}}
{{ include "boltseal.fullname" . | trunc 45 | trimSuffix "-" }}-crds
{{- end -}}

{{/* Names of the CustomResourceDefinitions, as a YAML list. */}}
{{- define "boltseal.crdNames" -}}
- imageintegritypolicies.boltseal.dev
- namespacedimageintegritypolicies.boltseal.dev
{{- range list "certificatestores" "keymanagementproviders" "namespacedkeymanagementproviders" "namespacedpolicies" "namespacedstores" "namespacedverifiers" "policies" "stores" "verifiers" }}
- {{ . }}.config.ratify.deislabs.io
{{- end }}
{{- range list "clusterbundles" "clusterreports" "clusters" "featureregistrations" "policyassignments" "policydefinitions" "policyexemptions" "policysetdefinitions" "remediations" }}
- {{ . }}.policy.boltseal.dev
{{- end }}
{{- end -}}

{{/* What the webhook configurations belong to, and go with. */}}
{{- define "boltseal.webhookOwner" -}}
{{- if .Values.rbac.create -}}
ClusterRole/{{ include "boltseal.fullname" . }}
{{- else -}}
none
{{- end -}}
{{- end -}}

{{- define "boltseal.terminationGrace" -}}
{{- add .Values.shutdown.delaySeconds .Values.shutdown.timeoutSeconds 5 -}}
{{- end -}}

{{/* Where the API server's requests come from, as a list in YAML; empty where the network proves nothing. It is asked
whoever asks for a proof, so it also refuses what needs one and has none. */}}
{{- define "boltseal.apiServers" -}}
{{- $w := .Values.webhook -}}
{{- if and $w.apiServers (or .Values.hostNetwork (not .Values.networkPolicy.enabled)) -}}
{{- fail "webhook.apiServers needs networkPolicy.enabled, and no hostNetwork: without a NetworkPolicy anybody could reach the webhook" -}}
{{- end -}}
{{- if and .Values.keySources.podPullSecrets $w.enabled (not $w.clientCAConfigMap) (not $w.apiServers) -}}
{{- fail "keySources.podPullSecrets needs a proof that the API server asks: whoever reaches the webhook could name any Pod, and read registries with its Secrets. Set webhook.clientCAConfigMap where the API server shows a client certificate, or webhook.apiServers to where its requests come from (docs/webhook.md, Who may ask)" -}}
{{- end -}}
{{- with $w.apiServers }}{{ toYaml . }}{{ end -}}
{{- end }}

{{/* "true" where this hub serves the compliance page. */}}
{{- define "boltseal.page" -}}
{{- with .Values.governance -}}
{{- if and .enabled .page.enabled -}}
{{- if .hubKubeconfigSecret -}}
{{- fail "governance.page is for the hub, and with governance.hubKubeconfigSecret the hub is elsewhere" -}}
{{- end -}}
true
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The ConfigMap with the CAs of the collector of traces; "" where there is none. */}}
{{- define "boltseal.tracingCA" -}}
{{- with .Values.tracing }}{{ if .endpoint }}{{ .caConfigMap }}{{ end }}{{ end -}}
{{- end -}}

{{/* A map as name=value,name=value, with values in percent-encoding. */}}
{{- define "boltseal.pairs" -}}
{{- $pairs := list -}}
{{- range $name, $value := . -}}
{{- $pairs = append $pairs (printf "%s=%s" $name (urlquery $value | replace "+" "%20")) -}}
{{- end -}}
{{- join "," $pairs -}}
{{- end -}}
