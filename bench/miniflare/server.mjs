// Starts the worker beside this file on 127.0.0.1 with a KV namespace and a D1 database that persist:
// node server.mjs <port> <folder>
import { readFileSync } from "node:fs";
import { Miniflare } from "miniflare";

const [port, folder] = process.argv.slice(2);
const server = new Miniflare({
  modules: true,
  script: readFileSync(new URL("./worker.mjs", import.meta.url), "utf8"),
  compatibilityDate: "2026-01-01",
  host: "127.0.0.1",
  port: Number(port),
  kvNamespaces: ["KV"],
  kvPersist: `${folder}/kv`,
  d1Databases: { DB: "bench" },
  d1Persist: `${folder}/d1`,
});
await server.ready;
console.log("ready");
for (const signal of ["SIGTERM", "SIGINT"]) {
  process.once(signal, () => server.dispose().then(() => process.exit(0)));
}
