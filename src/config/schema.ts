import { Type, type Static, type TProperties } from 'typebox'

/**
 * Every knob of the product: its default, its unit, its range and what it is for. The configuration file, the
 * environment, the command line and docs/configuration.md are all read off this schema. A unit is the end of a
 * name: `…Ms`, `…Bytes`, `…Tokens`. `allowed` says in words what a pattern says in signs.
 */

/** A part of the file that may be left out, whole or in part. */
const section = <T extends TProperties>(properties: T, description: string) =>
  Type.Object(properties, { default: {}, additionalProperties: false, description })

/** An entry of a list; what has no default must be given. */
const entry = <T extends TProperties>(properties: T) =>
  Type.Object(properties, { additionalProperties: false })

const ms = (value: number, description: string, range: { minimum?: number; maximum?: number } = {}) =>
  Type.Integer({ default: value, minimum: 1, maximum: 86_400_000, description, ...range })

export const policyNames = [
  'peak_ewma',
  'least_conn',
  'round_robin',
  'weighted',
  'prefix',
  'session',
] as const

const Policy = Type.Enum([...policyNames], {
  default: 'peak_ewma',
  description: 'How an instance is chosen among those of a model.',
})

const Tls = section({
  certFile: Type.String({ default: '', description: 'Certificate chain in PEM. With it the server speaks HTTPS; the files are read again when they change.' }),
  keyFile: Type.String({ default: '', description: 'Private key of the certificate, in PEM.' }),
  clientCaFile: Type.String({ default: '', description: 'Certificates in PEM of those who sign client certificates; empty asks for none.' }),
  clientCert: Type.Enum(['require', 'request'], { default: 'require', description: 'With `clientCaFile`: whether a connection without a good client certificate is refused, or goes on.' }),
}, 'HTTPS, and mutual TLS.') // prettier-ignore

const Server = section({
  host: Type.String({ default: '127.0.0.1', minLength: 1, description: 'Address to listen on.' }),
  port: Type.Integer({ default: 8080, minimum: 0, maximum: 65_535, description: 'Port to listen on; 0 takes a free one.' }),
  processes: Type.Integer({ default: 1, minimum: 1, maximum: 64, description: 'Gateway processes that share the port, the limits and the instances. More than 1 puts a process beside them that has the storage, the tasks and the model processes.' }),
  bodyBytesMax: Type.Integer({ default: 10_485_760, minimum: 1024, maximum: 1_073_741_824, description: 'Largest request body; larger ones are refused with 413.' }),
  jsonDepthMax: Type.Integer({ default: 64, minimum: 4, maximum: 1000, description: 'Deepest nesting of a request body.' }),
  headersTimeoutMs: ms(10_000, 'How long a client may take to send its headers.'),
  requestTimeoutMs: ms(60_000, 'How long a client may take to send a whole request.'),
  keepAliveTimeoutMs: ms(65_000, 'How long an idle client connection is kept.'),
  drainTimeoutMs: ms(30_000, 'How long requests in flight may go on after Ctrl-C or SIGTERM.'),
  hosts: Type.Array(Type.String({ pattern: '^[a-z0-9.-]{1,253}$', allowed: 'a host name in lower case, such as `models.example.com`' }), { default: [], maxItems: 64, description: 'Names of the internet by which it may be called while authentication is off. Addresses and names without a dot always do.' }),
  corsOrigins: Type.Array(Type.String({ pattern: '^(\\*|https?://[^/\\s]+)$', allowed: 'an origin such as `https://app.example.com`, or `*`' }), { default: [], maxItems: 64, description: 'Origins whose pages may call this server from a browser. Empty: none.' }),
  tls: Tls,
}, 'The HTTP server.') // prettier-ignore

const Log = section({
  level: Type.Enum(['debug', 'info', 'warn', 'error', 'silent'], { default: 'info', description: 'Least severe level that is written.' }),
  format: Type.Enum(['auto', 'json', 'pretty'], { default: 'auto', description: '`auto` is `pretty` on a terminal and `json` elsewhere.' }),
  prompts: Type.Boolean({ default: false, description: 'Write prompt texts into the access log. Off unless you ask for it.' }),
}, 'What is written to standard error.') // prettier-ignore

/** A model run by this program, in processes of its own. */
const Model = entry({
  name: Type.String({ pattern: '^[^\\s\\u0000-\\u001f\\u007f]{1,200}$', allowed: '1 to 200 characters without spaces', description: 'Public name of the model.' }),
  source: Type.String({ minLength: 1, description: '`tiny` (bundled), the path of a GGUF file (a relative one starts from the folder of the configuration file), or `hf:user/repo:file.gguf`.' }),
  instances: Type.Integer({ default: 1, minimum: 1, maximum: 64, description: 'Processes that run this model.' }),
  parallel: Type.Integer({ default: 8, minimum: 1, maximum: 256, description: 'Sequences that one instance decodes together.' }),
  waitingMax: Type.Integer({ default: 64, minimum: 0, maximum: 10_000, description: 'Requests that may wait inside one instance.' }),
  contextTokens: Type.Integer({ default: 0, minimum: 0, maximum: 10_000_000, description: 'Context of each sequence; 0 takes what the model was trained with, at most 4096.' }),
  threads: Type.Integer({ default: 0, minimum: 0, maximum: 1024, description: 'Threads of each instance; 0 shares the cores among all local instances.' }),
  gpu: Type.Enum(['off', 'auto', 'cuda', 'vulkan', 'metal'], { default: 'off', description: 'Where the layers run.' }),
  weight: Type.Number({ default: 1, exclusiveMinimum: 0, maximum: 1000, description: 'Share of the traffic beside other instances of the same model.' }),
}) // prettier-ignore

/** A server that already runs: vLLM, SGLang, llama-server, Ollama or anything else that speaks OpenAI's HTTP API. */
const Upstream = entry({
  name: Type.String({ pattern: '^[a-zA-Z0-9._-]{1,64}$', allowed: '1 to 64 letters, digits, `.`, `_` or `-`', description: 'Name of the instance in logs and metrics.' }),
  url: Type.String({ pattern: '^https?://.', allowed: 'an `http://` or `https://` URL', description: 'Base URL up to and with the version, such as `http://127.0.0.1:8000/v1`. Without any path, `/v1` is taken.' }),
  apiKeyEnv: Type.String({ default: '', pattern: '^([A-Za-z_][A-Za-z0-9_]*)?$', allowed: 'the name of an environment variable, such as `OPENAI_API_KEY`, and never the key itself', description: 'Environment variable that holds the key; empty for none.' }),
  models: Type.Record(Type.String(), Type.String(), { default: {}, description: 'Public model name -> name at this upstream. Empty: what its `GET /models` lists.' }),
  weight: Type.Number({ default: 1, exclusiveMinimum: 0, maximum: 1000, description: 'Share of the traffic beside other instances of the same model.' }),
  inFlightMax: Type.Integer({ default: 1024, minimum: 1, maximum: 100_000, description: 'Requests at once.' }),
  slots: Type.Integer({ default: 0, minimum: 0, maximum: 100_000, description: 'Requests that it works on at once; more wait in it. 0: unknown; tasks then take it for 16, and live requests are let in up to `inFlightMax` until they slow down. Set it to `--max-num-seqs` (vLLM), `--max-running-requests` (SGLang), `-np` (llama-server) or `OLLAMA_NUM_PARALLEL`.' }),
  probe: Type.Enum(['models', 'health', 'off'], { default: 'models', description: 'How its health is asked: `GET …/models`, `GET /health`, or not at all.' }),
}) // prettier-ignore

const Routing = section({
  policy: Policy,
  policies: Type.Record(Type.String(), Policy, { default: {}, description: 'Model -> policy, where it differs.' }),
  aliases: Type.Record(Type.String(), Type.String(), { default: {}, description: 'Other name -> model.' }),
  fallbacks: Type.Record(Type.String(), Type.Array(Type.String(), { maxItems: 8 }), { default: {}, description: 'Model -> models to try, in order, when none of its instances is available.' }),
  sessionHeader: Type.String({ default: 'x-session-id', pattern: '^[a-zA-Z0-9_-]{1,100}$', allowed: 'the name of a header', description: 'Header that keeps a conversation on one instance under `session`; the `user` field is used without it.' }),
  retryRatio: Type.Number({ default: 0.2, minimum: 0, maximum: 1, description: 'Retries allowed for each live request, over time.' }),
  retryReserve: Type.Integer({ default: 100, minimum: 0, maximum: 10_000, description: 'Retries that may come at once, before any traffic has earned them.' }),
  attemptsMax: Type.Integer({ default: 3, minimum: 1, maximum: 10, description: 'Instances that one request may be tried on.' }),
  hedgeAfterMs: Type.Integer({ default: 0, minimum: 0, maximum: 600_000, description: 'After this long without a first byte a request is sent to a second instance too, and the faster answer counts; 0 never. Takes from the retries.' }),
}, 'How a request finds its instance.') // prettier-ignore

const Timeouts = section(
  {
    connectMs: ms(3_000, 'To open a connection to an instance.'),
    firstByteMs: ms(120_000, 'From a request to the first byte of its answer.'),
    idleMs: ms(60_000, 'Between two chunks of an answer.'),
  },
  'How long the parts of an answer may take.',
)

const Health = section({
  probeIntervalMs: ms(2_000, 'Between two probes of an instance.'),
  probeTimeoutMs: ms(2_000, 'For the answer to a probe.'),
  probeFailuresMax: Type.Integer({ default: 3, minimum: 1, maximum: 100, description: 'Failed probes in a row after which an instance gets no traffic; a local one is then restarted.' }),
  ejectAfterFailures: Type.Integer({ default: 5, minimum: 1, maximum: 1000, description: 'Failed requests in a row after which an instance is ejected.' }),
  ejectBaseMs: ms(30_000, 'Length of the first ejection; the n-th lasts n times as long.'),
  ejectShareMax: Type.Number({ default: 0.5, minimum: 0, maximum: 1, description: 'Largest share of the instances of a model that may be ejected at once.' }),
  breakerWindowMs: ms(10_000, 'Time that a circuit breaker looks back on.', { minimum: 1_000 }),
  breakerCallsMin: Type.Integer({ default: 20, minimum: 1, maximum: 100_000, description: 'Calls in that time before it judges.' }),
  breakerShare: Type.Number({ default: 0.5, exclusiveMinimum: 0, maximum: 1, description: 'Share of failed or slow calls that opens it.' }),
  breakerSlowMs: Type.Integer({ default: 0, minimum: 0, maximum: 600_000, description: 'Time to the first byte from which a call is slow; 0 counts failures alone.' }),
  breakerOpenMs: ms(5_000, 'How long it stays open before it lets single calls through.'),
  restartDelayMs: ms(500, 'Before the first restart of a crashed local instance; doubled at each further crash.'),
  restartDelayMaxMs: ms(30_000, 'Longest delay between restarts.'),
  startTimeoutMs: ms(120_000, 'For a local instance to load its model.'),
}, 'When an instance is taken out of service and when it comes back.') // prettier-ignore

const Storage = section({
  url: Type.String({ default: '', pattern: '^(|sqlite:.+|postgres(ql)?://.+)$', allowed: 'empty, `sqlite:PATH` or `postgres://user@host:5432/database`', description: 'Where tasks, files and cached answers are kept. Empty: an SQLite database in `dataDir`. A password can stay in the environment (`PGPASSWORD`).' }),
  connectionsMax: Type.Integer({ default: 8, minimum: 2, maximum: 200, description: 'Connections to PostgreSQL.' }),
  keepFinishedMs: Type.Integer({ default: 604_800_000, minimum: 60_000, maximum: 31_536_000_000, description: 'How long an ended task and its result are kept.' }),
  keepFinishedMax: Type.Integer({ default: 1_000_000, minimum: 0, maximum: 100_000_000, description: 'Ended tasks that are kept at most, the newest.' }),
  fileBytesMax: Type.Integer({ default: 209_715_200, minimum: 1024, maximum: 1_073_741_824, description: 'Largest file that may be uploaded.' }),
  filesBytesMax: Type.Integer({ default: 10_737_418_240, minimum: 1024, maximum: 1_099_511_627_776, description: 'Bytes of all files of one tenant.' }),
  keepFilesMs: Type.Integer({ default: 2_592_000_000, minimum: 60_000, maximum: 31_536_000_000, description: 'How long a file or a stored response is kept.' }),
}, 'What is kept on disk.') // prettier-ignore

const Queue = section({
  concurrencyMax: Type.Integer({ default: 64, minimum: 0, maximum: 10_000, description: 'Tasks that this process runs at once; 0 runs none here and leaves them to `autoglm worker`.' }),
  liveReserve: Type.Number({ default: 0.25, minimum: 0, maximum: 1, description: 'Share of the fleet that tasks leave free for live requests.' }),
  attemptsMax: Type.Integer({ default: 5, minimum: 1, maximum: 100, description: 'Attempts of a task that does not say.' }),
  retryDelayMs: ms(1_000, 'Before the second attempt; doubled at each further one, with jitter.'),
  retryDelayMaxMs: ms(300_000, 'Longest delay between two attempts.'),
  leaseMs: ms(30_000, 'How long a worker may be silent before its tasks are given to another.', { minimum: 1_000 }),
  attemptTimeoutMs: ms(3_600_000, 'Longest time for one attempt.'),
  ageingMs: ms(60_000, 'How long a task waits behind more urgent bands before some of their turns are its own.'),
  tenantTasksMax: Type.Integer({ default: 100_000, minimum: 1, maximum: 100_000_000, description: 'Tasks of one tenant that wait or run.' }),
  tenantBytesMax: Type.Integer({ default: 1_073_741_824, minimum: 1024, maximum: 1_099_511_627_776, description: 'Bytes of the bodies of these.' }),
  tasksMax: Type.Integer({ default: 1_000_000, minimum: 1, maximum: 1_000_000_000, description: 'Tasks of all tenants that wait or run.' }),
  bytesMax: Type.Integer({ default: 10_737_418_240, minimum: 1024, maximum: 1_099_511_627_776, description: 'Bytes of the bodies of these.' }),
}, 'Asynchronous tasks.') // prettier-ignore

const Cache = section({
  enabled: Type.Boolean({ default: true, description: 'Answer equal deterministic calls (temperature 0, or a seed) from a cache.' }),
  ttlMs: Type.Integer({ default: 3_600_000, minimum: 1_000, maximum: 2_592_000_000, description: 'How long an answer is used again.' }),
  entryBytesMax: Type.Integer({ default: 1_048_576, minimum: 1024, maximum: 16_777_216, description: 'Largest answer that is kept.' }),
  memoryBytesMax: Type.Integer({ default: 67_108_864, minimum: 0, maximum: 17_179_869_184, description: 'Answers kept in memory.' }),
  storageBytesMax: Type.Integer({ default: 1_073_741_824, minimum: 0, maximum: 1_099_511_627_776, description: 'Answers kept on disk.' }),
}, 'Answers that are used again.') // prettier-ignore

const Webhooks = section({
  secretEnv: Type.String({ default: '', pattern: '^([A-Za-z_][A-Za-z0-9_]*)?$', allowed: 'the name of an environment variable', description: 'Environment variable that holds the secret that webhooks are signed with (`whsec_` and base64). Empty: webhooks are refused.' }),
  allowPrivate: Type.Boolean({ default: false, description: 'Let webhooks go to private, loopback and link-local addresses.' }),
  timeoutMs: ms(10_000, 'For one delivery.'),
  attemptsMax: Type.Integer({ default: 8, minimum: 1, maximum: 50, description: 'Deliveries that are tried, with growing delays.' }),
}, 'Messages about tasks that have ended.') // prettier-ignore

/** A broker that brings tasks. */
const Ingress = entry({
  name: Type.String({ pattern: '^[a-zA-Z0-9._-]{1,64}$', allowed: '1 to 64 letters, digits, `.`, `_` or `-`', description: 'Name of the source in logs and metrics.' }),
  url: Type.String({ pattern: '^(amqps?|nats|tls)://.', allowed: 'an `amqp://`, `amqps://`, `nats://` or `tls://` URL', description: 'RabbitMQ or NATS (JetStream).' }),
  passwordEnv: Type.String({ default: '', pattern: '^([A-Za-z_][A-Za-z0-9_]*)?$', allowed: 'the name of an environment variable', description: 'Environment variable that holds the password; empty takes what the URL says.' }),
  queue: Type.String({ default: 'autoglm.tasks', pattern: '^[A-Za-z0-9._-]{1,200}$', allowed: '1 to 200 letters, digits, `.`, `_` or `-`', description: 'Queue (RabbitMQ), or subject (NATS), that tasks are taken from; made when it is not there.' }),
  prefetch: Type.Integer({ default: 64, minimum: 1, maximum: 10_000, description: 'Messages taken before the first is acknowledged.' }),
  deliveriesMax: Type.Integer({ default: 5, minimum: 1, maximum: 100, description: 'Deliveries of one message after which it goes to the dead-letter exchange or subject.' }),
}) // prettier-ignore

const rate = (description: string) =>
  Type.Integer({
    default: 0,
    minimum: 0,
    maximum: 1_000_000_000,
    description: `${description}; 0 for no limit.`,
  })

/** What may come through in a minute, and at once. Also in the claims of a token and beside a key. */
const limitFields = {
  requestsPerMinute: rate('Requests a minute'),
  tokensPerMinute: rate('Tokens a minute, prompt and answer'),
  concurrentMax: rate('Requests at once'),
} // prettier-ignore

export const LimitsEntry = entry(limitFields)

export const serviceTiers = ['priority', 'default', 'flex'] as const
export const bandNames = ['urgent', 'high', 'normal', 'low', 'batch'] as const

/** What belongs to one tenant. `autoglm tenant` keeps the same in the storage. */
export const TenantEntry = entry({
  weight: Type.Number({ default: 1, exclusiveMinimum: 0, maximum: 1000, description: 'Share of the turns beside other tenants.' }),
  models: Type.Array(Type.String({ minLength: 1 }), { default: [], maxItems: 1000, description: 'Models that it may use; empty for all.' }),
  serviceTier: Type.Enum([...serviceTiers], { default: 'default', description: 'Class of its live requests that name none.' }),
  serviceTierMax: Type.Enum([...serviceTiers], { default: 'priority', description: 'Highest class that its live requests may ask for.' }),
  priorityMax: Type.Enum([...bandNames], { default: 'urgent', description: 'Most urgent band that its tasks may ask for.' }),
  ...limitFields,
  modelLimits: Type.Record(Type.String(), LimitsEntry, { default: {}, description: 'Model -> limits of this tenant on it, beside the others.' }),
  budgetPerDay: Type.Number({ default: 0, minimum: 0, maximum: 1e12, description: 'What it may spend in a day (UTC), in the currency of `prices`; 0 for no limit.' }),
  budgetPerMonth: Type.Number({ default: 0, minimum: 0, maximum: 1e12, description: 'The same for a month.' }),
  keepFinishedMs: Type.Integer({ default: 0, minimum: 0, maximum: 31_536_000_000, description: 'How long its ended tasks are kept; 0 as `storage.keepFinishedMs` says.' }),
  keepFilesMs: Type.Integer({ default: 0, minimum: 0, maximum: 31_536_000_000, description: 'How long its files and responses are kept; 0 as `storage.keepFilesMs` says.' }),
}) // prettier-ignore

const algorithms = ['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA'] as const // prettier-ignore
/**
 * What a caller may do: `inference` asks models, `tasks` submits and changes asynchronous work, `read` looks at what
 * is its tenant's, `admin` manages tenants and keys and sees what is of all. `admin` includes the others.
 */
export const permissions = ['inference', 'tasks', 'read', 'admin'] as const

/** Issuer and audience of the tokens that this server makes itself. */
export const ownIssuer = 'open-autoglm'

/** Somebody whose tokens are good here. */
const Issuer = entry({
  issuer: Type.String({ minLength: 1, maxLength: 512, description: 'The `iss` of its tokens, to the letter.' }),
  audiences: Type.Array(Type.String({ minLength: 1, maxLength: 512 }), { maxItems: 16, description: 'A token must name one of these as its `aud`.' }),
  algorithms: Type.Array(Type.Enum([...algorithms]), { maxItems: 13, description: 'Algorithms that its tokens may be signed with.' }),
  jwksUrl: Type.String({ default: '', pattern: '^(|https?://.+)$', allowed: 'an `https://` URL', description: 'Where its public keys are; read again at a bounded rate when a token names an unknown one.' }),
  jwksFile: Type.String({ default: '', description: 'File of its public keys (JWKS); read again when it changes.' }),
  secretEnv: Type.String({ default: '', pattern: '^([A-Za-z_][A-Za-z0-9_]*)?$', allowed: 'the name of an environment variable', description: 'Environment variable that holds the shared secret of HS algorithms, 32 bytes or more.' }),
  leewayMs: Type.Integer({ default: 30_000, minimum: 0, maximum: 300_000, description: 'How far its clock may be off.' }),
  tokenAgeMaxMs: Type.Integer({ default: 86_400_000, minimum: 60_000, maximum: 31_536_000_000, description: 'Oldest token (by `iat`) that is taken.' }),
  tenant: Type.String({ default: '', pattern: '^[\\w.:@-]{0,100}$', allowed: '1 to 100 letters, digits, `_`, `.`, `:`, `@` or `-`', description: 'Tenant of all its tokens; empty takes it from `tenantClaim`.' }),
  tenantClaim: Type.String({ default: 'tenant', minLength: 1, maxLength: 100, description: 'Claim that names the tenant.' }),
  rolesClaim: Type.String({ default: 'roles', minLength: 1, maxLength: 100, description: 'Claim that lists the roles, as a list or as words.' }),
  limitsClaim: Type.String({ default: 'limits', minLength: 1, maxLength: 100, description: 'Claim that holds limits of the token, with the names of `tenants`.' }),
  roles: Type.Array(Type.Enum([...permissions]), { default: [], maxItems: 4, description: 'Roles of tokens that have no such claim.' }),
  rolesMax: Type.Array(Type.Enum([...permissions]), { default: ['inference', 'tasks', 'read'], maxItems: 4, description: 'Roles that its tokens may have at all.' }),
}) // prettier-ignore

const Auth = section({
  required: Type.Boolean({ default: false, description: 'Ask every caller for a key or a token. Without it the server listens on loopback addresses only.' }),
  keySecretEnv: Type.String({ default: '', pattern: '^([A-Za-z_][A-Za-z0-9_]*)?$', allowed: 'the name of an environment variable', description: 'Environment variable that holds the secret under which keys are hashed. Empty: one that is made at the first start and kept in the storage.' }),
  issuers: Type.Array(Issuer, { default: [], maxItems: 16, description: 'Whose JSON Web Tokens are good here, beside those of this server.' }),
  tokenTtlMs: ms(900_000, 'How long a token of `POST /auth/token` is good.', { minimum: 60_000 }),
  tokenKeyMs: Type.Integer({ default: 2_592_000_000, minimum: 3_600_000, maximum: 31_536_000_000, description: 'How long one key signs tokens before the next takes over.' }),
}, 'Who may call.') // prettier-ignore

const Limits = section({
  burstMs: ms(60_000, 'How much of its rate a limit may let through at once: a minute\'s worth.', { minimum: 1_000, maximum: 3_600_000 }),
  models: Type.Record(Type.String(), LimitsEntry, { default: {}, description: 'Model -> limits of all tenants together.' }),
  dynamic: Type.Boolean({ default: true, description: 'Let the rates follow the health of the fleet: less at the peak, more in the valley.' }),
  floor: Type.Number({ default: 0.25, exclusiveMinimum: 0, maximum: 1, description: 'Smallest share of a rate at the peak.' }),
  ceiling: Type.Number({ default: 1.25, minimum: 1, maximum: 10, description: 'Largest multiple of a rate in the valley.' }),
}, 'How limits count.') // prettier-ignore

const Redis = section({
  url: Type.String({ default: '', pattern: '^(|rediss?://.+)$', allowed: 'empty, or a `redis://` or `rediss://` URL', description: 'Redis in which several servers share their limits; empty for none.' }),
  passwordEnv: Type.String({ default: '', pattern: '^([A-Za-z_][A-Za-z0-9_]*)?$', allowed: 'the name of an environment variable', description: 'Environment variable that holds the password; empty takes what the URL says.' }),
  prefix: Type.String({ default: 'autoglm', pattern: '^[A-Za-z0-9._:-]{1,64}$', allowed: '1 to 64 letters, digits, `.`, `_`, `:` or `-`', description: 'Beginning of its keys: servers with the same one share.' }),
}, 'What replicas share.') // prettier-ignore

const Admission = section({
  enabled: Type.Boolean({ default: true, description: 'Let no more live requests into the fleet than it answers in good time; the others wait for a moment, in order.' }),
  waitingMax: Type.Integer({ default: 512, minimum: 0, maximum: 100_000, description: 'Live requests of a model that may wait.' }),
  waitMaxMs: ms(10_000, 'Longest wait.'),
  concurrencyMin: Type.Integer({ default: 4, minimum: 1, maximum: 100_000, description: 'Live requests of a model that are let in at once whatever happens.' }),
  ttftTargetMs: Type.Integer({ default: 0, minimum: 0, maximum: 600_000, description: 'Time from the arrival of a stream to its first token that all should keep: fewer are let in, and nobody waits beyond its reach. 0 takes what is usual for the model.' }),
}, 'When live requests are let in.') // prettier-ignore

const Price = entry({
  input: Type.Number({ default: 0, minimum: 0, maximum: 1e9, description: 'For a million tokens of a prompt.' }),
  cached: Type.Number({ default: 0, minimum: 0, maximum: 1e9, description: 'For a million tokens of a prompt that were cached.' }),
  output: Type.Number({ default: 0, minimum: 0, maximum: 1e9, description: 'For a million tokens of an answer.' }),
}) // prettier-ignore

/** What runs when the configuration names no model and no upstream: the first minute works without a file. */
export const defaultModels = [{ name: 'tiny', source: 'tiny', instances: 2 }]

export const ConfigSchema = section({
  dataDir: Type.String({ default: '.autoglm', minLength: 1, description: 'Folder for downloaded models and other state. A relative one in the file starts from the folder of the file.' }),
  server: Server,
  log: Log,
  models: Type.Array(Model, { default: [], maxItems: 64, description: 'Models that this program runs. With neither models nor upstreams, the bundled `tiny` runs on two instances.' }),
  upstreams: Type.Array(Upstream, { default: [], maxItems: 1024, description: 'Model servers that already run.' }),
  routing: Routing,
  timeouts: Timeouts,
  health: Health,
  storage: Storage,
  queue: Queue,
  cache: Cache,
  webhooks: Webhooks,
  ingress: Type.Array(Ingress, { default: [], maxItems: 16, description: 'Brokers that tasks are taken from.' }),
  auth: Auth,
  tenants: Type.Record(Type.String(), TenantEntry, { default: {}, description: 'Tenant -> what is its own. What is named here `autoglm tenant` can\'t change; `default` is for those that are named nowhere.' }),
  limits: Limits,
  redis: Redis,
  admission: Admission,
  prices: Type.Record(Type.String(), Price, { default: {}, description: 'Model -> its prices, in any currency.' }),
}, 'Everything.') // prettier-ignore

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T

export type Config = DeepReadonly<Static<typeof ConfigSchema>>
export type ModelConfig = Config['models'][number]
export type UpstreamConfig = Config['upstreams'][number]
export type TenantSettings = Config['tenants'][string]
export type LimitSettings = DeepReadonly<Static<typeof LimitsEntry>>
export type IssuerConfig = Config['auth']['issuers'][number]
export type PolicyName = (typeof policyNames)[number]
