// A Node client for tests: makes one HTTPS request with a certificate of its own.
//
//     node get.mjs ROOTS.pem LISTS.pem CHAIN.pem KEY.pem URL [HOW]
//
// HOW is how the revocation lists are given to `tls`: "each" (one by one) or "together" (one text).

import { readFileSync } from "node:fs";
import { get } from "node:https";

const [roots, lists, chain, key, url, how] = process.argv.slice(2);
const text = readFileSync(lists, "ascii");
const options = {
  ca: readFileSync(roots),
  crl: how === "together" ? text : text.split(/(?<=-----END X509 CRL-----\n)/),
  cert: readFileSync(chain),
  key: readFileSync(key),
  minVersion: "TLSv1.3",
};
get(url, options, (answer) => answer.pipe(process.stdout)).on("error", (error) => {
  console.log(error.code, error.message);
  process.exitCode = 1;
});
