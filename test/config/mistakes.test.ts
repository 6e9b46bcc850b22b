import { strict as assert } from 'node:assert'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import type { Flags } from '../../src/config/flags.ts'
import { loadConfig } from '../../src/config/load.ts'
import { SetupError } from '../../src/core/errors.ts'

/** Every way to err that we could think of, and word for word what the person then reads. */
type Mistake = {
  name: string
  file?: string
  env?: Record<string, string>
  flags?: Flags
  /** The lines of the message, without the head that counts them. */
  says: string[]
}

const policies = 'one of peak_ewma, least_conn, round_robin, weighted, prefix, session (default peak_ewma)'
const models = 'models: [{name: a, source: tiny}, {name: b, source: tiny}]\n'
const open = 'upstreams: [{name: u, url: "http://h:1/v1"}]\n'

const mistakes: Mistake[] = [
  // Values
  { name: 'a number that is too large', file: 'server:\n  port: 99999\n', says: ['autoglm.yaml:2:9 server.port: 99999 is not allowed; a whole number from 0 to 65535 (default 8080)'] },
  { name: 'a negative number', file: 'server: {port: -1}', says: ['autoglm.yaml:1:16 server.port: -1 is not allowed; a whole number from 0 to 65535 (default 8080)'] },
  { name: 'a fraction for a whole number', file: 'server:\n  port: 80.5\n', says: ['autoglm.yaml:2:9 server.port: 80.5 is not allowed; a whole number from 0 to 65535 (default 8080)'] },
  { name: 'a number in quotes', file: 'server:\n  port: "8080"\n', says: ['autoglm.yaml:2:9 server.port: "8080" is not allowed; a whole number from 0 to 65535 (default 8080)'] },
  { name: 'a value left out', file: 'server:\n  port:\n', says: ['autoglm.yaml:2:8 server.port: (empty) is not allowed; a whole number from 0 to 65535 (default 8080)'] },
  { name: 'a word for a number, with its unit', file: 'timeouts:\n  idleMs: 10s\n', says: ['autoglm.yaml:2:11 timeouts.idleMs: "10s" is not allowed; a whole number of milliseconds from 1 to 86400000 (default 60000)'] },
  { name: 'a unit of bytes', file: 'server: {bodyBytesMax: 10MB}', says: ['autoglm.yaml:1:24 server.bodyBytesMax: "10MB" is not allowed; a whole number of bytes from 1024 to 1073741824 (default 10485760)'] },
  { name: 'a weight of nothing', file: 'models:\n  - name: a\n    source: tiny\n    weight: 0\n', says: ['autoglm.yaml:4:13 models[0].weight: 0 is not allowed; a number above 0 and up to 1000 (default 1)'] },
  { name: 'not a number at all', file: 'routing: {retryRatio: .nan}', says: ['autoglm.yaml:1:23 routing.retryRatio: NaN is not allowed; a number from 0 to 1 (default 0.2)'] },
  { name: 'a yes that is no boolean', file: 'log:\n  prompts: yes\n', says: ['autoglm.yaml:2:12 log.prompts: "yes" is not allowed; true or false (default false)'] },
  { name: 'an unknown choice', file: 'routing:\n  policy: fastest\n', says: [`autoglm.yaml:2:11 routing.policy: "fastest" is not allowed; ${policies}`] },
  { name: 'an empty text', file: 'server: {host: ""}', says: ['autoglm.yaml:1:16 server.host: "" is not allowed; a text that is not empty (default 127.0.0.1)'] },
  { name: 'a name with a space', file: 'models: [{name: a b, source: tiny}]', says: ['autoglm.yaml:1:17 models[0].name: "a b" is not allowed; 1 to 200 characters without spaces'] },
  { name: 'a list for a section', file: 'server: [1]', says: ['autoglm.yaml:1:9 server: a list is not allowed; a section with host, port, processes, bodyBytesMax, jsonDepthMax, headersTimeoutMs, requestTimeoutMs, keepAliveTimeoutMs, drainTimeoutMs, hosts, corsOrigins, tls'] },
  { name: 'a mapping for a list', file: 'models:\n  name: a\n', says: ['autoglm.yaml:2:3 models: a mapping is not allowed; a list of at most 64 entries'] },
  { name: 'a name for a list entry', file: 'models:\n  - tiny\n', says: ['autoglm.yaml:2:5 models[0]: "tiny" is not allowed; a section with name, source, instances, parallel, waitingMax, contextTokens, threads, gpu, weight'] },
  { name: 'a list for a mapping', file: 'routing: {aliases: [a]}', says: ['autoglm.yaml:1:20 routing.aliases: a list is not allowed; a mapping from a name to a text'] },
  { name: 'a text for a list of names', file: 'routing: {fallbacks: {tiny: b}}', says: ['autoglm.yaml:1:29 routing.fallbacks.tiny: "b" is not allowed; a list of at most 8 names'] },
  { name: 'too many entries', file: `models: [${Array.from({ length: 65 }, (_, at) => `{name: m${at}, source: tiny}`).join(', ')}]`, says: ['autoglm.yaml:1:9 models: has 65 entries; a list of at most 64 entries'] },
  { name: 'something that must be given', file: 'models:\n  - name: a\n', says: ['autoglm.yaml:2:5 models[0].source: is missing; a text that is not empty'] },
  { name: 'a file that is a list', file: '- a\n', says: ['autoglm.yaml:1:1: a list is not allowed; a section with dataDir, server, log, models, upstreams, routing, timeouts, health, storage, queue, cache, webhooks, ingress, auth, tenants, limits, redis, admission, prices'] },
  { name: 'a wrong value by way of an alias', file: 'models:\n  - &m {name: a, source: tiny, threads: x}\nx: 1\n', says: ['autoglm.yaml:2:41 models[0].threads: "x" is not allowed; a whole number from 0 to 1024 (default 0)', 'autoglm.yaml:3:1 x: unknown; known here: dataDir, server, log, models, upstreams, routing, timeouts, health, storage, queue, cache, webhooks, ingress, auth, tenants, limits, redis, admission, prices'] },

  // Names
  { name: 'a slip of the hand', file: 'server:\n  prot: 1\n', says: ['autoglm.yaml:2:3 server.prot: unknown; did you mean port?'] },
  { name: 'snake case', file: 'server: {body_bytes_max: 5000}', says: ['autoglm.yaml:1:10 server.body_bytes_max: unknown; did you mean bodyBytesMax?'] },
  { name: 'words in another order', file: 'server: {bodyMaxBytes: 5000}', says: ['autoglm.yaml:1:10 server.bodyMaxBytes: unknown; did you mean bodyBytesMax?'] },
  { name: 'a knob outside its section', file: 'port: 9000\n', says: ['autoglm.yaml:1:1 port: unknown; did you mean server.port?'] },
  { name: 'a list of the file inside an entry', file: 'models: [{name: a, source: tiny, upstreams: []}]', says: ['autoglm.yaml:1:34 models[0].upstreams: unknown; did you mean upstreams at the top of the file?'] },
  { name: 'a name that resembles nothing', file: 'timeouts: {qqq: 1}', says: ['autoglm.yaml:1:12 timeouts.qqq: unknown; known here: connectMs, firstByteMs, idleMs'] },
  { name: 'a name that every object has', file: 'log: {constructor: 1}', says: ['autoglm.yaml:1:7 log.constructor: unknown; known here: level, format, prompts'] },
  { name: '__proto__', file: '__proto__: {port: 1}', says: ['autoglm.yaml:1:1 __proto__: unknown; known here: dataDir, server, log, models, upstreams, routing, timeouts, health, storage, queue, cache, webhooks, ingress, auth, tenants, limits, redis, admission, prices'] },

  // YAML
  { name: 'a tab', file: 'server:\n\tport: 1\n', says: ['autoglm.yaml:2:1: is not valid YAML: a tab is used for indentation; use spaces'] },
  { name: 'a key that stands twice', file: 'log:\n  level: info\n  level: warn\n', says: ['autoglm.yaml:3:3: is not valid YAML: this key stands here for the second time in the same section'] },
  { name: 'two pairs on a line', file: 'log: level: info\n', says: ['autoglm.yaml:1:6: is not valid YAML: two "key: value" pairs on one line; put the text in quotes, or the second pair on a line of its own'] },
  { name: 'a bracket left open', file: 'models: [{name: a\nlog: {}\n', says: ['autoglm.yaml:2:1: is not valid YAML: the indentation does not fit the lines before it, or a bracket is not closed'] },
  { name: 'a quote left open', file: 'dataDir: "x\n', says: ['autoglm.yaml:2:1: is not valid YAML: a closing quote, a bracket, a comma, or the space after a colon is missing'] },
  { name: 'a colon left out', file: 'port 9000\nlog: {}\n', says: ['autoglm.yaml:1:1: is not valid YAML: a colon is missing after the name, or its value runs over several lines'] },
  { name: 'two documents', file: 'log: {}\n---\nlog: {}\n', says: ['autoglm.yaml:2:1: is not valid YAML: the file must hold one document, and "---" begins a second one'] },
  { name: 'a tag', file: 'dataDir: !secret x\n', says: ['autoglm.yaml:1:10: is not valid YAML: tags (!name) are not supported'] },
  { name: 'an alias to nothing', file: 'dataDir: *x\n', says: ['autoglm.yaml:1:1: is not valid YAML: this alias (*name) has no anchor (&name) before it'] },
  { name: 'aliases that explode', file: `a: &a [1,1,1,1,1,1,1,1,1]\n${'bcdefghi'.split('').map((key, at) => `${key}: &${key} [${Array(9).fill(`*${'abcdefgh'[at]}`).join(', ')}]\n`).join('')}`, says: ['autoglm.yaml:1:1: is not valid YAML: aliases (*name) stand for too much text'] },
  { name: 'brackets without end', file: `models: ${'['.repeat(50_000)}`, says: ['*: is not valid YAML: brackets are nested too deeply'] },

  // The environment
  { name: 'a variable with a word for a number', env: { AUTOGLM_SERVER_PORT: 'abc' }, says: ['AUTOGLM_SERVER_PORT=abc (server.port) is not allowed; a whole number from 0 to 65535 (default 8080)'] },
  { name: 'a variable in hexadecimal', env: { AUTOGLM_SERVER_PORT: '0x50' }, says: ['AUTOGLM_SERVER_PORT=0x50 (server.port) is not allowed; a whole number from 0 to 65535 (default 8080)'] },
  { name: 'a variable with a wrong choice', env: { AUTOGLM_LOG_LEVEL: 'INFO' }, says: ['AUTOGLM_LOG_LEVEL=INFO (log.level) is not allowed; one of debug, info, warn, error, silent (default info)'] },
  { name: 'a variable with a wrong boolean', env: { AUTOGLM_LOG_PROMPTS: '1' }, says: ['AUTOGLM_LOG_PROMPTS=1 (log.prompts) is not allowed; true or false (default false)'] },
  { name: 'an unknown variable that resembles one', env: { AUTOGLM_SERVER_PROT: 's3cret' }, says: ['AUTOGLM_SERVER_PROT: unknown variable; did you mean AUTOGLM_SERVER_PORT?'] },
  { name: 'an unknown variable', env: { AUTOGLM_XQZW: 's3cret' }, says: ['AUTOGLM_XQZW: unknown variable; `autoglm validate --print` shows all settings'] },
  { name: 'a wrong value inside a list variable', env: { AUTOGLM_MODELS: '[{name: a, source: tiny, instances: 0}]' }, says: ['AUTOGLM_MODELS models[0].instances: 0 is not allowed; a whole number from 1 to 64 (default 1)'] },
  { name: 'a list variable that is no YAML', env: { AUTOGLM_MODELS: '[{name: a' }, says: ['AUTOGLM_MODELS models: is not valid YAML: the indentation does not fit the lines before it, or a bracket is not closed (line 1, column 10)'] },
  { name: 'a list variable that is a text', env: { AUTOGLM_MODELS: 'tiny' }, says: ['AUTOGLM_MODELS models: "tiny" is not allowed; a list of at most 64 entries'] },

  // The command line
  { name: 'a flag with a word for a number', flags: { port: 'abc' }, says: ['--port abc (server.port) is not allowed; a whole number from 0 to 65535 (default 8080)'] },
  { name: 'a flag with a wrong choice', flags: { policy: 'x' }, says: [`--policy x (routing.policy) is not allowed; ${policies}`] },
  { name: 'an empty flag', flags: { host: '' }, says: ['--host  (server.host) is not allowed; a text that is not empty (default 127.0.0.1)'] },
  { name: 'too many instances', flags: { instances: '65' }, says: ['--instances 65 (models[0].instances) is not allowed; a whole number from 1 to 64 (default 1)'] },
  { name: 'instances of two models', file: models, flags: { instances: '2' }, says: ['--instances 2 is for one model, and 2 are configured; name it with --model, or set its instances in the file'] },
  { name: 'an upstream that is no URL', flags: { upstream: ['localhost:8000'] }, says: ['--upstream localhost:8000 (upstreams[0].url) is not allowed; an http:// or https:// URL'] },

  // Between knobs
  { name: 'nothing to serve', file: 'models: []\n', says: ['autoglm.yaml:1:9 models: is empty and so is upstreams: nothing would answer; name a model or an upstream'] },
  { name: 'two models of one name', file: 'models: [{name: a, source: tiny}, {name: a, source: tiny}]', says: ['autoglm.yaml:1:42 models[1].name: "a" is taken by models[0]; raise its instances, or choose another name'] },
  { name: 'two upstreams of one name', file: 'upstreams: [{name: u, url: "http://h"}, {name: u, url: "http://i"}]', says: ['autoglm.yaml:1:48 upstreams[1].name: "u" is taken by upstreams[0]; choose another name'] },
  { name: 'an upstream named like an instance', file: 'models: [{name: a, source: tiny}]\nupstreams: [{name: a-0, url: "http://h"}]', says: ['autoglm.yaml:2:20 upstreams[0].name: "a-0" is the name of an instance of the model "a"; choose another name'] },
  { name: 'an alias to nowhere', file: `${models}routing: {aliases: {x: c}}`, says: ['autoglm.yaml:2:24 routing.aliases.x: "c" is not a model; did you mean "a"?'] },
  { name: 'an alias to a stranger', file: `${models}routing: {aliases: {x: llama}}`, says: ['autoglm.yaml:2:24 routing.aliases.x: "llama" is not a model; there are "a", "b"'] },
  { name: 'aliases in a circle', file: `${models}routing: {aliases: {x: y, y: x}}`, says: ['autoglm.yaml:2:24 routing.aliases.x: "y" leads in a circle: "x" -> "y" -> "x"', 'autoglm.yaml:2:30 routing.aliases.y: "x" leads in a circle: "y" -> "x" -> "y"'] },
  { name: 'an alias with the name of a model', file: `${models}routing: {aliases: {a: b}}`, says: ['autoglm.yaml:2:21 routing.aliases.a: is the name of a model; an alias needs a name of its own'] },
  { name: 'a policy for no model', file: `${models}routing: {policies: {llama: prefix}}`, says: ['autoglm.yaml:2:22 routing.policies.llama: is not a model; there are "a", "b"'] },
  { name: 'a policy for an alias', file: `${models}routing: {aliases: {x: a}, policies: {x: prefix}}`, says: ['autoglm.yaml:2:39 routing.policies.x: is an alias; name the model itself'] },
  { name: 'a fallback to no model', file: `${models}routing: {fallbacks: {a: [b, llama]}}`, says: ['autoglm.yaml:2:30 routing.fallbacks.a[1]: "llama" is not a model; there are "a", "b"'] },
  { name: 'a fallback of no model', file: `${models}routing: {fallbacks: {llama: [b]}}`, says: ['autoglm.yaml:2:23 routing.fallbacks.llama: is not a model; there are "a", "b"'] },
  { name: 'a fallback to itself', file: `${models}routing: {fallbacks: {a: [a]}}`, says: ['autoglm.yaml:2:27 routing.fallbacks.a[0]: "a" is the model itself'] },
  { name: 'a fallback listed twice', file: `${models}routing: {fallbacks: {a: [b, b]}}`, says: ['autoglm.yaml:2:30 routing.fallbacks.a[1]: "b" is listed twice'] },
  { name: 'headers may take longer than the request', file: 'server: {headersTimeoutMs: 90000}', says: ['autoglm.yaml:1:28 server.headersTimeoutMs: 90000 must not be larger than server.requestTimeoutMs, which is 60000'] },
  { name: 'a first delay beyond the longest', file: 'health: {restartDelayMaxMs: 100}', says: ['autoglm.yaml:1:9 health.restartDelayMs: 500 must not be larger than health.restartDelayMaxMs, which is 100'] },
  { name: 'a key of a variable that is not set', file: 'upstreams: [{name: u, url: "http://h", apiKeyEnv: MY_KEY}]', says: ['autoglm.yaml:1:51 upstreams[0].apiKeyEnv: "MY_KEY" names a variable that is not set; set it, or leave apiKeyEnv out'] },
  { name: 'client certificates of nobody', file: 'server: {tls: {certFile: a, keyFile: b, clientCert: require}}', says: ['autoglm.yaml:1:53 server.tls.clientCert: "require" asks nobody for a certificate without server.tls.clientCaFile; name the file of those who sign them, or leave clientCert out'] },
  { name: 'client certificates of nobody, from the environment', env: { AUTOGLM_SERVER_TLS_CLIENT_CERT: 'require' }, says: ['AUTOGLM_SERVER_TLS_CLIENT_CERT=require (server.tls.clientCert) asks nobody for a certificate without server.tls.clientCaFile; name the file of those who sign them, or leave clientCert out'] },

  // Secrets in the wrong place: none of these messages holds `s3cret`
  { name: 'a password in the URL', file: 'upstreams: [{name: u, url: "https://me:s3cret@h/v1"}]', says: ['autoglm.yaml:1:28 upstreams[0].url: (not shown) must not hold a user or a password; put the key into a variable and name it in apiKeyEnv'] },
  { name: 'a key in the query', file: 'upstreams: [{name: u, url: "https://h/v1?key=s3cret"}]', says: ['autoglm.yaml:1:28 upstreams[0].url: (not shown) must end before any "?" or "#"; a key belongs into a variable that apiKeyEnv names'] },
  { name: 'a password in a URL of another scheme', file: 'upstreams: [{name: u, url: "ftp://me:s3cret@h"}]', says: ['autoglm.yaml:1:28 upstreams[0].url: "ftp://***@h" is not allowed; an http:// or https:// URL'] },
  { name: 'the key in place of its variable', file: 'upstreams: [{name: u, url: "http://h", apiKeyEnv: sk-s3cret}]', says: ['autoglm.yaml:1:51 upstreams[0].apiKeyEnv: (not shown) is not allowed; the name of an environment variable, such as OPENAI_API_KEY, and never the key itself'] },
  { name: 'a key that could be the name of a variable', file: 'upstreams: [{name: u, url: "http://h", apiKeyEnv: s3cret}]', says: ['autoglm.yaml:1:51 upstreams[0].apiKeyEnv: (not shown) names a variable that is not set; set it, or leave apiKeyEnv out'] },
  { name: 'a secret of webhooks that is not set', file: 'webhooks: {secretEnv: HOOK_SECRET}', says: ['autoglm.yaml:1:23 webhooks.secretEnv: "HOOK_SECRET" names a variable that is not set; set it, or leave secretEnv out'] },
  { name: 'the secret of webhooks in place of its variable', file: 'webhooks: {secretEnv: "whsec_s3cret+s3cret=="}', says: ['autoglm.yaml:1:23 webhooks.secretEnv: (not shown) is not allowed; the name of an environment variable'] },
  { name: 'a secret of webhooks that could be the name of a variable', file: 'webhooks: {secretEnv: whsec_s3cret}', says: ['autoglm.yaml:1:23 webhooks.secretEnv: (not shown) names a variable that is not set; set it, or leave secretEnv out'] },
  { name: 'a password of a broker that is not set', file: 'ingress: [{name: r, url: "amqp://h", passwordEnv: MQ}]', env: { MQ: '' }, says: ['autoglm.yaml:1:51 ingress[0].passwordEnv: "MQ" names a variable that is not set; set it, or leave passwordEnv out'] },
  { name: 'a password of a broker in place of its variable', file: 'ingress: [{name: r, url: "amqp://h", passwordEnv: "s3cret!"}]', says: ['autoglm.yaml:1:51 ingress[0].passwordEnv: (not shown) is not allowed; the name of an environment variable'] },

  // Who may come in
  { name: 'an issuer without keys', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256]}]}`, says: ['autoglm.yaml:2:18 auth.issuers[0]: has no keys; exactly one of jwksUrl, jwksFile and secretEnv is needed'] },
  { name: 'an issuer with keys from two places', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256], jwksUrl: "https://i/j", jwksFile: j}]}`, says: ['autoglm.yaml:2:18 auth.issuers[0]: has its keys from several places; exactly one of jwksUrl, jwksFile and secretEnv is needed'] },
  { name: 'a shared secret for public keys', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [HS256, RS256], secretEnv: S}]}`, env: { S: 'x'.repeat(32) }, says: ['autoglm.yaml:2:58 auth.issuers[0].algorithms: "RS256" can only be checked with public keys (jwksUrl or jwksFile); a shared secret is for HS256, HS384 and HS512'] },
  { name: 'public keys for a shared secret', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [HS256, RS256], jwksUrl: "https://i/j"}]}`, says: [`autoglm.yaml:2:58 auth.issuers[0].algorithms: "HS256" can only be checked with a shared secret (secretEnv), never with public keys`] },
  { name: 'no audience', file: `${open}auth: {issuers: [{issuer: i, audiences: [], algorithms: [RS256], jwksUrl: "https://i/j"}]}`, says: ['autoglm.yaml:2:41 auth.issuers[0].audiences: is empty; a token of this issuer for somebody else must not be good here'] },
  { name: 'no algorithm', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [], jwksUrl: "https://i/j"}]}`, says: ['autoglm.yaml:2:58 auth.issuers[0].algorithms: is empty; name those that the issuer signs with, such as RS256'] },
  { name: 'the algorithm none', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [none], jwksUrl: "https://i/j"}]}`, says: ['autoglm.yaml:2:59 auth.issuers[0].algorithms[0]: "none" is not allowed; one of HS256, HS384, HS512, RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512, EdDSA'] },
  { name: 'keys over a connection that anybody can change', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256], jwksUrl: "http://i.example.com/j"}]}`, says: ['autoglm.yaml:2:76 auth.issuers[0].jwksUrl: (not shown) must be an https:// URL without a user or a password; http:// is for loopback addresses alone'] },
  { name: 'keys at a host that begins as a loopback address', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256], jwksUrl: "http://127.0.0.1.example.com/j"}]}`, says: ['autoglm.yaml:2:76 auth.issuers[0].jwksUrl: (not shown) must be an https:// URL without a user or a password; http:// is for loopback addresses alone'] },
  { name: 'a shared secret that can be guessed', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [HS256], secretEnv: S}]}`, env: { S: 'short' }, says: ['autoglm.yaml:2:78 auth.issuers[0].secretEnv: "S" names a secret that is too short; 32 bytes or more are needed'] },
  { name: 'a shared secret that is not set', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [HS256], secretEnv: S}]}`, says: ['autoglm.yaml:2:78 auth.issuers[0].secretEnv: "S" names a variable that is not set; set it, or leave secretEnv out'] },
  { name: 'a secret in place of its variable', file: `${open}auth: {keySecretEnv: "s3cret!s3cret"}`, says: ['autoglm.yaml:2:22 auth.keySecretEnv: (not shown) is not allowed; the name of an environment variable'] },
  { name: 'two entries for one issuer', file: `${open}auth: {issuers: [{issuer: i, audiences: [a], algorithms: [RS256], jwksUrl: "https://i/j"}, {issuer: i, audiences: [b], algorithms: [RS256], jwksUrl: "https://i/j"}]}`, says: ['autoglm.yaml:2:101 auth.issuers[1].issuer: "i" is that of auth.issuers[0] too; each issuer has one entry'] },
  { name: "an issuer with this server's name", file: `${open}auth: {issuers: [{issuer: open-autoglm, audiences: [a], algorithms: [RS256], jwksUrl: "https://i/j"}]}`, says: [`autoglm.yaml:2:27 auth.issuers[0].issuer: "open-autoglm" is the name of this server's own tokens; another is needed`] },
  { name: 'a tenant that can not be one', file: `${open}tenants: {"a b": {}}`, says: ['autoglm.yaml:2:11 tenants["a b"]: can\'t be the name of a tenant; 1 to 100 letters, digits, `_`, `.`, `:`, `@` or `-`'] },
  { name: 'a password of Redis that is not set', file: 'redis: {url: "redis://h", passwordEnv: REDIS_PW}', says: ['autoglm.yaml:1:40 redis.passwordEnv: "REDIS_PW" names a variable that is not set; set it, or leave passwordEnv out'] },
  { name: 'a Redis that is nowhere', file: 'redis: {url: "redis://:s3cret@h:port"}', says: ['autoglm.yaml:1:14 redis.url: (not shown) is not a URL; write one such as redis://127.0.0.1:6379'] },
  { name: 'a key under a name of its own', file: 'upstreams: [{name: u, url: "http://h", apiKey: s3cret}]', says: ['autoglm.yaml:1:40 upstreams[0].apiKey: unknown; did you mean apiKeyEnv?'] },
  { name: 'a key in broken YAML', file: 'apiKey: "s3cret\n', says: ['autoglm.yaml:2:1: is not valid YAML: a closing quote, a bracket, a comma, or the space after a colon is missing'] },
  { name: 'a password in a flag', flags: { upstream: ['http://me:s3cret@h'] }, says: ['--upstream http://***@h (upstreams[0].url) must not hold a user or a password; put the key into a variable and name it in apiKeyEnv'] },

  { name: 'a password with an @ in a flag', flags: { redis: 'redis//:s3@cret@h' }, says: ['--redis redis//***@h (redis.url) is not allowed; empty, or a redis:// or rediss:// URL'] },
  { name: 'a password too long to show', flags: { redis: `redis//:${'s3cret'.repeat(20)}@h` }, says: ['--redis redis//***@h (redis.url) is not allowed; empty, or a redis:// or rediss:// URL'] },
  { name: 'a password among the parameters', flags: { storage: 'postgres//h/db?password=s3cret' }, says: ['--storage postgres//h/db?password=*** (storage.url) is not allowed; empty, sqlite:PATH or postgres://user@host:5432/database'] },

  // All at once
  { name: 'mistakes in the file, the environment and the flags', file: `${open}log: {level: x}\nserver: {port: x}\n`, env: { AUTOGLM_HEALTH_EJECT_SHARE_MAX: '2' }, flags: { dataDir: '' }, says: [
    'autoglm.yaml:2:14 log.level: "x" is not allowed; one of debug, info, warn, error, silent (default info)',
    'autoglm.yaml:3:16 server.port: "x" is not allowed; a whole number from 0 to 65535 (default 8080)',
    'AUTOGLM_HEALTH_EJECT_SHARE_MAX=2 (health.ejectShareMax) is not allowed; a number from 0 to 1 (default 0.5)',
    '--data-dir  (dataDir) is not allowed; a text that is not empty (default .autoglm)',
  ] },
] // prettier-ignore

const folder = mkdtempSync(join(tmpdir(), 'autoglm-config-'))
after(() => rmSync(folder, { recursive: true }))

function read({ file, env, flags }: Mistake): string {
  const path = join(folder, 'autoglm.yaml')
  rmSync(path, { force: true })
  if (file !== undefined) writeFileSync(path, file)
  try {
    loadConfig({ env: env ?? {}, flags: flags ?? {}, cwd: folder })
  } catch (error) {
    assert.ok(error instanceof SetupError, String((error as Error).stack))
    return error.message
  }
  return 'no mistake was found'
}

describe('a mistake in the configuration', () => {
  for (const mistake of mistakes) {
    it(mistake.name, () => {
      const message = read(mistake)
      const head = mistake.says.length === 1 ? [] : [`${mistake.says.length} mistakes in the configuration:`]
      const indent = mistake.says.length === 1 ? '' : '  '
      const expected = [...head, ...mistake.says.map((line) => indent + line)].join('\n')
      if (expected.startsWith('*')) assert.ok(message.endsWith(expected.slice(1)), message)
      else assert.equal(message, expected)
      assert.ok(!message.includes('s3cret'))
    })
  }
})
