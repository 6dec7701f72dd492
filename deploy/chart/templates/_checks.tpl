{{- /* Refuses values that would install what cannot work; all problems at once. */ -}}
{{- define "own.checks" -}}
{{- $problems := list -}}
{{- $values := .Values -}}
{{- $many := gt (int (include "own.replicas" .)) 1 -}}
{{- $shared := eq $values.storage.accessMode "ReadWriteMany" -}}
{{- $claim := include "own.claim" . -}}
{{- $secret := $values.existingSecret -}}
{{- if not (regexMatch "^[a-z]" (include "own.fullname" .)) -}}
{{- $problems = append $problems "fullnameOverride: a Service has a name that begins with a letter, and this release has none: set it" -}}
{{- end -}}
{{- if not $values.milvus.uri -}}
{{- $problems = append $problems "milvus.uri: there is no address of Milvus: set it, for example --set milvus.uri=http://milvus.milvus.svc.cluster.local:19530 (this chart installs no Milvus)" -}}
{{- end -}}
{{- if and $many (eq $values.redis.kind "none") -}}
{{- $problems = append $problems (printf "redis.kind: %s replicas without Redis: Milvus takes users' clicks from one replica alone. Set redis.kind=own for a Redis of this chart, or redis.kind=external with redis.url (or SERVING_HISTORIES in existingSecret)" (include "own.replicas" .)) -}}
{{- end -}}
{{- if and $many (or (not $claim) (not $shared)) -}}
{{- $problems = append $problems (printf "storage.accessMode: %s replicas without a volume that they share: a replica that has no copy of the model that another one inserted is not ready. Set storage.accessMode=ReadWriteMany, with storage.existingClaim or storage.create=true" (include "own.replicas" .)) -}}
{{- end -}}
{{- if and $many $values.export.image -}}
{{- $problems = append $problems "export.image: is for one replica: after an insert of newer data, replicas with the older image would not be ready. Put exports into the shared volume and leave export.image out" -}}
{{- end -}}
{{- if not (or $values.export.image $claim) -}}
{{- $problems = append $problems "export.image, storage: there is no export: set storage.existingClaim (a volume with exports/), storage.create=true (a volume that you fill), or export.image (an image that holds one in /export)" -}}
{{- end -}}
{{- if not (or $secret $values.open $values.keys.read $values.keys.users $values.keys.write $values.keys.admin) -}}
{{- $problems = append $problems "keys: others can reach the service, and it has no keys: set keys.read, keys.admin … or existingSecret with SERVING_KEYS, or open=true to answer reads of whoever comes" -}}
{{- end -}}
{{- if and (eq $values.redis.kind "own") (not (or $secret $values.redis.password)) -}}
{{- $problems = append $problems "redis.password: set it, or existingSecret with REDIS_PASSWORD" -}}
{{- end -}}
{{- if and (eq $values.redis.kind "external") (not (or $secret $values.redis.url)) -}}
{{- $problems = append $problems "redis.url: set it (redis://user:password@host:6379/0), or existingSecret with SERVING_HISTORIES" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (not (dig "requests" "cpu" "" $values.resources)) -}}
{{- $problems = append $problems "resources.requests.cpu: autoscaling.targetCPU is a share of it: set it" -}}
{{- end -}}
{{- if and $values.autoscaling.enabled (gt (int $values.autoscaling.minReplicas) (int $values.autoscaling.maxReplicas)) -}}
{{- $problems = append $problems "autoscaling.minReplicas: is more than autoscaling.maxReplicas" -}}
{{- end -}}
{{- if and $values.update.enabled (or (not $claim) (not $shared) $values.export.image) -}}
{{- $problems = append $problems "update.enabled: the job writes the exports that the service reads: set storage.accessMode=ReadWriteMany, with storage.existingClaim or storage.create=true, and leave export.image out" -}}
{{- end -}}
{{- if and $values.update.enabled (not (or $secret $values.keys.admin)) -}}
{{- $problems = append $problems "keys.admin: the job of update.enabled inserts and goes back: set a key, or existingSecret with SERVING_KEY" -}}
{{- end -}}
{{- if and $values.ingress.enabled (not $values.ingress.host) -}}
{{- $problems = append $problems "ingress.host: set the name under which others call" -}}
{{- end -}}
{{- if and $values.ingress.enabled $values.hosts (not (has $values.ingress.host $values.hosts)) -}}
{{- $problems = append $problems (printf "hosts: calls by the name of the ingress would be refused: add %s" $values.ingress.host) -}}
{{- end -}}
{{- if $problems -}}
{{- fail (printf "\n\n- %s\n" (join "\n- " $problems)) -}}
{{- end -}}
{{- end -}}
