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

const Server = section({
  host: Type.String({ default: '127.0.0.1', minLength: 1, description: 'Address to listen on.' }),
  port: Type.Integer({ default: 8080, minimum: 0, maximum: 65_535, description: 'Port to listen on; 0 takes a free one.' }),
  bodyBytesMax: Type.Integer({ default: 10_485_760, minimum: 1024, maximum: 1_073_741_824, description: 'Largest request body; larger ones are refused with 413.' }),
  jsonDepthMax: Type.Integer({ default: 64, minimum: 4, maximum: 1000, description: 'Deepest nesting of a request body.' }),
  headersTimeoutMs: ms(10_000, 'How long a client may take to send its headers.'),
  requestTimeoutMs: ms(60_000, 'How long a client may take to send a whole request.'),
  keepAliveTimeoutMs: ms(65_000, 'How long an idle client connection is kept.'),
  drainTimeoutMs: ms(30_000, 'How long requests in flight may go on after Ctrl-C or SIGTERM.'),
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
  restartDelayMs: ms(500, 'Before the first restart of a crashed local instance; doubled at each further crash.'),
  restartDelayMaxMs: ms(30_000, 'Longest delay between restarts.'),
  startTimeoutMs: ms(120_000, 'For a local instance to load its model.'),
}, 'When an instance is taken out of service and when it comes back.') // prettier-ignore

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
}, 'Everything.') // prettier-ignore

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T

export type Config = DeepReadonly<Static<typeof ConfigSchema>>
export type ModelConfig = Config['models'][number]
export type UpstreamConfig = Config['upstreams'][number]
export type PolicyName = (typeof policyNames)[number]
