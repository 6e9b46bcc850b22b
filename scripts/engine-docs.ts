import { strict as assert } from 'node:assert'
import { readdirSync, readFileSync } from 'node:fs'
import { createMetrics } from '../engine/metrics.ts'
import { contextTokensDefaultMax, defaultOptions, parseOptions, usage } from '../engine/options.ts'
import { parameters, type Rule } from '../engine/parameters.ts'
import { valueKeywords } from '../engine/schema-values.ts'
import { writeGrammar } from '../engine/schema.ts'
import { buildProgram } from '../src/cli/program.ts'
import { configRule, type Rule as ConfigRule } from '../src/config/knobs.ts'
import { ApiError, errorTable, type ErrorCode } from '../src/core/errors.ts'

/**
 * docs/engine.md as the engine itself tells it: what a table says is read off it, a range is asked of the check that
 * enforces it, a JSON Schema keyword is tried, and a number in the text is the constant of the source.
 */

const engineFolder = new URL('../engine/', import.meta.url)
const readSource = (file: string) => readFileSync(new URL(file, engineFolder), 'utf8')

const code = (text: string) => `\`${text}\``
const cell = (text: string) => text.replaceAll('|', '\\|')

function formatTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => '---'), ...rows].map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n')
}

/** The value of `const name = 1_000` in a file of the engine. */
function readConstant(file: string, name: string): number {
  const value = new RegExp(`^(?:export )?const ${name} = ([\\d_]+)$`, 'm').exec(readSource(file))?.[1]
  assert(value !== undefined, `engine/${file} has no number ${name} any more`)
  return Number(value.replaceAll('_', ''))
}

/** What is thrown; null when all is well. */
function catchError(run: () => unknown): Error | null {
  try {
    run()
    return null
  } catch (error) {
    return error as Error
  }
}

/** `…; it must be a number from 0 to 2.` -> `a number from 0 to 2` */
const allowedBy = (error: Error | null) => /must be (.*)\.$/.exec(error?.message ?? '')?.[1] ?? ''

const routeTexts: Readonly<Record<string, string>> = {
  '/v1/chat/completions': 'A conversation goes on; plain or as a stream.',
  '/v1/completions': 'A text goes on; plain or as a stream.',
  '/v1/embeddings': 'Vectors of texts.',
  '/v1/models': 'The one model, with `context_window`; `/v1/models/NAME` is the model alone.',
  '/health': '200 and `{"status":"ok","model":…,"slots":{"idle":…,"processing":…,"waiting":…}}`; 503 and `draining` while it stops.',
  '/metrics': 'Prometheus text.',
} // prettier-ignore

function formatRoutes(): string {
  const source = readSource('server.ts')
  const found = [...source.matchAll(/^ {4}'(\/[^']+)': /gm)].map((match) => match[1] as string)
  assert.deepEqual(found.toSorted(), Object.keys(routeTexts).toSorted(), 'describe every route of server.ts')
  const posts = source.slice(source.indexOf('const posts'), source.indexOf('const gets'))
  const rows = Object.entries(routeTexts).map(([path, text]) => [
    code(`${posts.includes(`'${path}'`) ? 'POST' : 'GET'} ${path}`),
    text,
  ])
  return formatTable(['Route', 'Answer'], rows)
}

/** Flags that have another name in `models[]`. */
const otherNames: Readonly<Record<string, string>> = { model: 'source' }
const toCamel = (flag: string) => flag.replaceAll(/-(\w)/g, (_, letter: string) => letter.toUpperCase())

const flagTexts = [...usage.matchAll(/^ {2}--([\w-]+) (?:\S+) +(.*)$/gm)].map((match) => ({
  flag: match[1] as string,
  text: (match[2] as string).replace(/ \(default [^)]*\)$/, ''),
}))

function formatFlags(): string {
  const instance = buildProgram(() => {}).commands.find((command) => command.name() === 'instance')
  const { models, log } = configRule.properties ?? {}
  const keys: Readonly<Record<string, ConfigRule>> = { ...models?.items?.properties }
  const rows = flagTexts
    .filter(({ flag }) => instance?.options.some(({ long }) => long === `--${flag}`))
    .map(({ flag, text }) => {
      const key = otherNames[flag] ?? toCamel(flag)
      const [setting, rule] =
        flag === 'log-level' ? ['log.level', log?.properties?.['level']] : [key, keys[key]]
      const place = flag === 'port' ? [] : ['--port', '0']
      const allowed = allowedBy(catchError(() => parseOptions(['--model', 'm', ...place, `--${flag}`, '?'])))
      const standard = (defaultOptions as Record<string, unknown>)[toCamel(flag)]
      return [
        code(`--${flag}`),
        rule ? code(setting) : '',
        allowed,
        standard === undefined ? '' : code(String(standard)),
        // Where the text only lists the choices again, the configuration says what they are for.
        allowed.endsWith(text) ? (rule?.description ?? text) : text,
      ]
    })
  return formatTable(['Flag', 'With `serve`', 'Allowed', 'Default', 'What it is'], rows)
}

const rules = Object.entries(parameters)
const marks = { supported: 'yes', inert: 'accepted', refused: 'refused' } as const
const mark = (rule: Rule, route: Rule['routes'][number]) =>
  rule.routes.includes(route) ? marks[rule.effect] : ''
const routesOf = (rule: Rule) => [mark(rule, 'completions'), mark(rule, 'chat')]
/** The check is asked with a value that JSON cannot hold, so that nothing but what is unchecked passes. */
function allowedFor(name: string, rule: Rule): string {
  const texts = rule.routes.map((route) => allowedBy(catchError(() => rule.check(undefined, name, route))))
  return new Set(texts).size === 1
    ? (texts[0] as string)
    : texts.map((text, i) => `${rule.routes[i]}: ${text}`).join('; ')
}

function formatParameters(effect: 'supported' | 'inert'): string {
  const rows = rules
    .filter(([, rule]) => rule.effect === effect)
    .map(([name, rule]) => [
      code(name),
      ...routesOf(rule),
      allowedFor(name, rule),
      ...(effect === 'supported' ? [rule.note] : []),
    ])
  const head = ['Parameter', 'Completions', 'Chat', 'Allowed', ...(effect === 'supported' ? ['What it does'] : [])]
  return formatTable(head, rows)
} // prettier-ignore

const harmlessValues = [false, true, '', 'none', 'auto', 'low', 'medium', 1, [], ['text']]

function formatRefused(): string {
  const rows = rules
    .filter(([, rule]) => rule.effect === 'refused')
    .map(([name, rule]) => {
      const passing = harmlessValues
        .filter((value) => rule.isHarmless(value, {}))
        .map((value) => code(JSON.stringify(value)))
      if (rule.isHarmless(3, { n: 3 }) && !rule.isHarmless(3, {})) passing.push('the value of `n`')
      return [code(name), ...routesOf(rule), rule.note, passing.join(', ')]
    })
  return formatTable(['Parameter', 'Completions', 'Chat', 'Why', 'Passes all the same'], rows)
}

/** One use of each keyword of JSON Schema, in a schema that would do without it. */
const keywordUses: readonly [base: Record<string, unknown>, uses: Record<string, unknown>][] = [
  [{}, { type: 'integer', enum: ['a'], const: 'a', anyOf: [{ type: 'null' }], oneOf: [{ type: 'null' }] }],
  [{ $defs: { a: { type: 'null' } } }, { $ref: '#/$defs/a', $dynamicRef: '#/$defs/a' }],
  [{ type: 'object' }, { properties: { a: { type: 'null' } } }],
  [{ type: 'object', properties: { a: {} } }, { required: ['a'], additionalProperties: true }],
  [{ type: 'object' }, { patternProperties: { a: {} }, propertyNames: {}, minProperties: 1, maxProperties: 2 }],
  [{ type: 'object' }, { unevaluatedProperties: false, dependentRequired: {}, dependentSchemas: {}, dependencies: {} }],
  [{ type: 'array' }, { items: { type: 'null' }, minItems: 1, maxItems: 2, uniqueItems: true, prefixItems: [{}] }],
  [{ type: 'array' }, { contains: {}, minContains: 1, maxContains: 2, additionalItems: false, unevaluatedItems: false }],
  [{ type: 'string' }, { minLength: 1, maxLength: 2, format: 'date', pattern: 'a', contentEncoding: 'base64' }],
  [{ type: 'number' }, { minimum: 1, maximum: 2, exclusiveMinimum: 1, exclusiveMaximum: 2, multipleOf: 2 }],
  [{ type: 'string' }, { allOf: [{}], not: {}, if: {}, nullable: true, discriminator: {} }],
  [{ type: 'string' }, { title: 'a', description: 'a', default: 'a', examples: ['a'], deprecated: true, readOnly: true }],
  [{ type: 'string' }, { writeOnly: true, $schema: 'a', $id: 'a', $comment: 'a', $defs: {}, definitions: {} }],
  [{ type: 'string' }, { $anchor: 'a', $vocabulary: {} }],
] // prettier-ignore

const formatNames =
  'date time date-time uuid duration email hostname ipv4 ipv6 uri uri-reference regex json-pointer'

const tryGrammar = (schema: unknown) => writeGrammar(schema, 'schema')

/** Whether a grammar keeps to a keyword, takes it for a remark, or is refused by it. */
function classify(base: Record<string, unknown>, keyword: string, value: unknown) {
  const without = tryGrammar(base)
  let grammar: string
  try {
    grammar = tryGrammar({ ...base, [keyword]: value })
  } catch (error) {
    assert(error instanceof ApiError && error.code === 'unsupported_parameter', `the use of ${keyword}`)
    return 'refused'
  }
  return grammar === without ? 'annotation' : 'kept'
}

function sortKeywords() {
  const sorted = { kept: [] as string[], annotation: [] as string[], refused: [] as string[] }
  for (const [base, uses] of keywordUses) {
    for (const [keyword, value] of Object.entries(uses)) {
      sorted[classify(base, keyword, value)].push(code(keyword))
    }
  }
  return sorted
}

function formatSchemas(): string {
  const { kept, annotation, refused } = sortKeywords()
  const formats = formatNames
    .split(' ')
    .filter((format) => catchError(() => tryGrammar({ type: 'string', format })) === null)
  return formatTable(
    ['JSON Schema', ''],
    [
      ['kept to', kept.join(', ')],
      ['formats kept to', formats.map(code).join(', ')],
      ['remarks, read over', annotation.join(', ')],
      ['refused, as is any other', refused.join(', ')],
    ],
  )
}

/** Every code that a file of the engine makes, and the one that strangers become. */
function formatErrors(): string {
  const sources = readdirSync(engineFolder)
    .filter((file) => file.endsWith('.ts'))
    .map(readSource)
    .join('\n')
  const made = new Set(['internal', ...[...sources.matchAll(/\bfail\('(\w+)'/g)].map((match) => match[1])])
  const rows = Object.entries(errorTable)
    .filter(([name]) => made.has(name as ErrorCode))
    .map(([name, { status, meaning }]) => [String(status), code(name), meaning])
  return formatTable(['Status', 'Code', 'Meaning'], rows)
}

async function formatMetrics(): Promise<string> {
  const metrics = createMetrics('m')
  metrics.countRequest('/health', 200)
  const lines = await metrics.render()
  const rows = [...lines.matchAll(/^# HELP (\S+) (.*)\n# TYPE \S+ (\w+)$/gm)].map((match) => {
    const [, name, help, kind] = match as unknown as [string, string, string, string]
    const sample = new RegExp(`^${name}(?:_bucket)?\\{(.*)\\}`, 'm').exec(lines)?.[1] ?? ''
    const labels = [...sample.matchAll(/(\w+)="/g)].map(([, label]) => label as string)
    const own = labels.filter((label) => label !== 'model' && label !== 'le')
    return [code(name), kind, own.map(code).join(', '), help]
  })
  return formatTable(['Metric', 'Kind', 'Labels', 'What it counts'], rows)
}

export async function writeEngineDocs(): Promise<string> {
  const { parallel, waitingMax } = defaultOptions
  const seconds = (name: string) => readConstant('server.ts', name) / 1000
  return `# The engine

<!-- Written by \`npm run docs:engine\` from the tables in engine/. Change it there, or the text in scripts/engine-docs.ts. -->

The engine runs one GGUF model in one process and speaks OpenAI's HTTP API. llama.cpp does the arithmetic; batching, the prefix cache, stops, tools and grammars are the engine's own. What it cannot honour it refuses by name.

## Run it

\`autoglm serve\` starts one process for each local instance, on a Unix socket of its own, and starts it again when it ends:

\`\`\`yaml
models:
  - { name: llama, source: ./llama.gguf, instances: 2, parallel: 16, contextTokens: 8192 }
\`\`\`

Alone, without the gateway:

\`\`\`sh
autoglm instance --model ./llama.gguf --port 8081
autoglm instance --model tiny --socket /run/llama.sock --parallel 16
\`\`\`

${formatFlags()}

\`autoglm instance\` listens on port 8081 unless told otherwise, and takes \`tiny\` and \`hf:user/repo:file.gguf\` for \`--model\` too. Memory for \`parallel\` times \`context-tokens\` is taken at the start: lower one of them if it does not suffice.

The engine asks for no key. Leave it on the loopback address or a socket, and let the gateway face the world.

\`SIGTERM\` or Ctrl-C: new requests get 503, those in flight have ${defaultOptions.drainTimeoutMs / 1000} s to finish. A second signal ends it at once. One that \`serve\` started leaves Ctrl-C to its parent, and ends by itself when the parent is gone.

## Routes

${formatRoutes()}

\`HEAD\` is answered wherever \`GET\` is. \`model\` must name the model that is served.

## Parameters

A name that is in none of these tables is refused with 400 \`unsupported_parameter\`. \`null\` counts as absent.

### Supported

${formatParameters('supported')}

\`max_tokens\` 0 in completions reads the prompt only, for \`echo\` with \`logprobs\`. A reply also ends, with \`length\`, where the context is full, whatever \`max_tokens\` says. Log probabilities are the model's own, before bias, penalties and temperature.

### Accepted without effect

${formatParameters('inert')}

### Refused

${formatRefused()}

## Chat

**Template.** The one in the GGUF file; a model without one gets \`User: … / Assistant: …\` with the stop \`\\nUser:\`. A template that does not know \`developer\` gets \`system\` instead; one that does not know tools gets them described in the system message. A conversation that the template does not accept is a 400 with the template's own words.

**Messages.** Roles \`system\`, \`developer\`, \`user\`, \`assistant\`, \`tool\`; contents are texts or arrays of text parts. Pictures, sound and files are refused. \`name\`, \`tool_call_id\`, \`tool_calls\` and \`reasoning_content\` reach the template; other fields are refused unless empty.

**Control tokens.** Names such as \`<|im_end|>\` in messages and tools reach the model as the characters they are: nobody ends their own turn and speaks as the system. In the \`prompt\` of completions they are the tokens: whoever writes a raw prompt knows the model.

## Tools

| \`tool_choice\` | What happens |
| --- | --- |
| \`"auto"\` (default) | The model may call. A call is \`<tool_call>{"name":…,"arguments":…}</tool_call>\`, or a reply that is such an object and nothing else; \`name\` must be one of \`tools\`. Arguments of a function with \`strict: true\` are kept to its schema by grammar; those of others are not checked. |
| \`"required"\` | Exactly one call of any of \`tools\`, kept to its schema by grammar. |
| one function | Exactly one call of this one, kept to its schema by grammar. |
| \`"none"\` | \`tools\` are not shown to the model. |

Calls that a model writes in another form than this are text. In a stream, a call comes as one piece once it is complete, and what may yet be a call is held back. A call that the token limit cut ends with \`length\`, its arguments unfinished. A forced call is always strict. Where a function is strict under \`auto\`, a text cannot begin with \`{\` and every call is one of \`tools\` with an object for its arguments. Fields of \`tools\` and \`tool_choice\` that are not OpenAI's are refused by name.

## JSON

\`response_format\` of type \`json_object\` or \`json_schema\` makes a grammar: the model cannot leave it, and keys come in a fixed order, the required ones first. Only the token limit can cut the text (\`finish_reason: "length"\`). With \`tools\` it needs \`tool_choice\` \`"none"\`; else it is refused. \`ignore_eos\` cannot go with a grammar.

${formatSchemas()}

No keyword is dropped in silence: it is kept to, or refused by its name.

- Values of \`const\` and \`enum\` are held against ${valueKeywords.map(code).join(', ')} beside them; those that break one are left out, and if none is left the schema is refused.
- \`type\` beside \`anyOf\` or \`oneOf\` narrows each of their schemas. Nothing else may stand beside them, nor beside \`$ref\`.
- \`oneOf\` is accepted where no value can fit two of its schemas: other types, other values, or other values of a required property. Otherwise it is refused; \`anyOf\` says what is usually meant.
- \`minLength\` and \`maxLength\` beside \`format\` are accepted where every text of the format has such a length.
- \`additionalProperties\`: further keys come last, without escapes, and none repeats a declared one.

\`$ref\` stays within the schema (\`#/$defs/…\`) and may be recursive. \`$id\` is read over at the top only. An object with \`properties\` and without \`additionalProperties\` gets no others. Lengths and numbers of items go up to ${readConstant('schema.ts', 'repetitionsMax')}; a schema has at most ${readConstant('schema.ts', 'nodesMax')} parts. The same rules hold for the \`parameters\` of a function that is forced or strict.

## Batching and the prefix cache

- Up to \`parallel\` sequences (${parallel}) are decoded together. New ones join and finished ones leave between two steps; each reply of \`n\` is a sequence.
- Up to \`waiting-max\` (${waitingMax}) wait in order of arrival. A request for which there is no room is refused whole: 503 \`engine_overloaded\`, \`Retry-After: 1\`. One that could never fit (\`n\` times prompts) is a 400.
- Running replies take their one token in every step; prompts share what is left of ${readConstant('model.ts', 'batchTokensMax')} tokens, in portions that keep a step near ${readConstant('scheduler.ts', 'stepTargetMs')} ms, so that a long prompt does not stall the streams of others.
- Each sequence keeps the tokens that it held last, replies included. A prompt goes where the longest beginning of it is; held elsewhere, even by a running sequence, the cache is copied if that saves ${readConstant('slots.ts', 'gainTokensMin')} tokens or more. \`usage\` tells what was found.
- Not taken from the cache: prompts with a \`seed\`, and prompts whose log probabilities are wanted (\`echo\` with \`logprobs\`). Recurrent, hybrid and sliding-window models reuse a sequence only if all it holds is the beginning of the prompt.
- A client that hangs up leaves before the next step, streaming or not, waiting or running.

## Seeds and determinism

The same request with the same \`seed\` gives the same text, whatever else runs. Its prompt is read alone, in parts of ${readConstant('step-plan.ts', 'exactPromptTokens')} tokens and without the cache, and it is never decoded by other kernels for want of company; so it costs more than a request without a seed. Reply *i* of \`n\` has the seed + *i*.

This holds for one machine, one version, one model file and the same flags; the tests run on CPUs. Another processor, GPU, number of threads or \`parallel\` may round otherwise, and then a text may take another turn. Without a seed, also at temperature 0, two tokens that are all but equally likely may change places with what else is in the batch. There is no \`system_fingerprint\`.

## Stops

A text of \`stop\` ends the reply and is not part of it, wherever tokens are cut; what may become one is held back until it is decided. A reply never contains half a character. Control tokens have no text, so no stop can match them; the model's own end tokens end the reply unless \`ignore_eos\` is set. \`finish_reason\` is \`stop\`, \`length\` or \`tool_calls\`.

## Usage

\`prompt_tokens\` counts each prompt once, however many replies it has; \`completion_tokens\` counts all replies, tokens of a stop text included and the end token not; \`prompt_tokens_details.cached_tokens\` are those of the prompt that the cache held. A stream tells it in a last chunk with \`stream_options: {"include_usage": true}\`.

## Embeddings

\`\`\`sh
curl http://127.0.0.1:8081/v1/embeddings -H 'content-type: application/json' -d '{"model":"tiny","input":["a fox","a dog"]}'
\`\`\`

\`input\` is a text, token ids, or up to ${readConstant('prompt.ts', 'promptsMax')} of either; \`encoding_format\` is \`float\` or \`base64\`; \`user\` has no effect; \`dimensions\` and everything else are refused. Vectors have length 1. A model that names a pooling keeps it; others get the mean over the tokens. The first request takes memory for a context of its own. Inputs are computed one by one between decoding steps, so give heavy use an instance of its own. More than ${readConstant('embeddings.ts', 'inputsWaitingMax')} inputs under way: 503.

## Limits

| What | Limit | Then |
| --- | --- | --- |
| Context of a sequence, prompt and reply together | \`context-tokens\`; as trained, at most ${contextTokensDefaultMax} | 400 \`context_length_exceeded\` for a prompt that leaves no room; \`length\` for a reply |
| Body | ${defaultOptions.bodyBytesMax} bytes | 413 |
| Nesting of the body | ${defaultOptions.jsonDepthMax} | 400 \`invalid_json\` |
| Prompts of a request | ${readConstant('prompt.ts', 'promptsMax')} | 400 |
| Entries of \`logit_bias\` | ${readConstant('parameters.ts', 'logitBiasesMax')} | 400 |
| \`max_tokens\` of completions, if absent | ${readConstant('completion.ts', 'tokensMaxDefault')} | \`length\` |
| Headers; the whole request | ${seconds('headersTimeoutMs')} s; ${seconds('requestTimeoutMs')} s | 408 |
| Requests under way | sequences and places in line, and ${readConstant('embeddings.ts', 'inputsWaitingMax')} more | 503 before the body is read |
| Bytes of a stream that the caller leaves unread | ${readConstant('reply.ts', 'unsentBytesMax')} | closed |
| A complete reply that nobody takes | ${seconds('sendTimeoutMs')} s | closed |
| An idle connection | ${seconds('keepAliveTimeoutMs')} s | closed |

Those of body and nesting are fixed, also under \`serve\`, whose \`server.bodyBytesMax\` and \`server.jsonDepthMax\` are the gateway's. Slow requests are looked for every ${readConstant('server.ts', 'slowCheckMs')} ms.

## Errors

In OpenAI's shape, with the field at fault in \`param\` ([errors.md](errors.md)). Every reply has an \`x-request-id\`: the request's own, or one made for it. What went wrong in an \`internal\` error is in the log under this id. In a stream that has begun it comes as a last event, \`data: {"error":…}\`, without \`[DONE]\`.

${formatErrors()}

What is not HTTP, or comes too slowly, or has headers that are too large, gets a bare 400, 408 or 431.

## Metrics

\`GET /metrics\` of the instance; for one of \`serve\`, on its socket. All have the label \`model\`.

${await formatMetrics()}

## Threads

\`--threads 0\` takes all cores but one, at least one. Under \`serve\`, all local instances share the cores but one, at least one thread each. llama.cpp spins at its barriers: one thread too many on a busy machine costs far more than it brings. Raise \`parallel\` before \`threads\`.

## GPU

\`--gpu off\` is the default. \`auto\` takes what the machine has, the CPU if there is nothing else; \`cuda\`, \`vulkan\` and \`metal\` insist and fail at the start, in one sentence, if it is missing. As many layers as fit are put on it. A checkout leaves out the CUDA binaries: [operations.md](operations.md#a-gpu). \`--log-level debug\` shows what llama.cpp says about it.
`
} // prettier-ignore
