// Checks custom resources against their CRDs' schemas: a JSON array on stdin, one line per mistake on stdout.
// These schemas check types, required fields and enumerations; they let unknown fields pass.
import { readFileSync } from "node:fs";
import * as gateway from "@kubernetes-models/gateway-api/gateway.networking.k8s.io/v1";
import * as keda from "@kubernetes-models/keda/keda.sh/v1alpha1";
import * as prometheus from "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1";

const groups = {
  "gateway.networking.k8s.io/v1": gateway,
  "keda.sh/v1alpha1": keda,
  "monitoring.coreos.com/v1": prometheus,
};
for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const name = `${object.kind} ${object.metadata.name}`;
  const Kind = groups[object.apiVersion]?.[object.kind];
  try {
    if (!Kind) throw new Error(`no schema of ${object.apiVersion}`);
    new Kind(object).validate();
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
}
