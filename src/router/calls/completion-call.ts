import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { fail } from '../../core/errors.ts'
import { plainAsk, type Ask, type Call } from '../call.ts'
import { hashPrefixBlocks } from '../policies/prefix-blocks.ts'
import { askUsage, parseBody, replaceModel, type Fields } from './body.ts'
import { charsPerToken, estimateAnswerTokens } from './token-estimate.ts'
import { ChatBody, CompletionBody, EmbeddingBody } from './schemas.ts'

/** One of OpenAI's routes that a model answers. */
export type ModelRoute = {
  /** Below /v1, such as `/chat/completions`. */
  path: string
  summary: string
  schema: TSchema
  /** The field whose beginning instances may hold in their cache; null where there is none. */
  promptField: 'messages' | 'prompt' | null
  streams: boolean
}

export const modelRoutes: readonly ModelRoute[] = [
  { path: '/completions', summary: 'Continue a text', schema: CompletionBody, promptField: 'prompt', streams: true },
  { path: '/chat/completions', summary: 'Answer a conversation', schema: ChatBody, promptField: 'messages', streams: true },
  { path: '/embeddings', summary: 'Turn texts into vectors', schema: EmbeddingBody, promptField: null, streams: false },
] // prettier-ignore

const promptCharsMax = 4096

export type ServiceTier = Ask['tier']

type CallLimits = { jsonDepthMax: number }

/** A call read from a request, and what the relay must know of it. */
export type ParsedCall = Call & {
  /** Who asks; to be set before the call is run. */
  ask: Ask
  /** The class of service that the body asks for; null for none, or for what is usual. */
  readonly serviceTier: ServiceTier | null
  /** By its length. */
  readonly promptTokens: number
  /** The longest answer that the body asks for, in tokens. */
  estimateAnswerTokens(): number
  /** The stream's usage was asked for by the gateway alone: the client must not see it. */
  readonly hidesUsage: boolean
  /** The body as it was parsed, for those who compare calls. */
  cacheFields(): Fields
  /** The start of what the model is asked, for operators who want it in their log. */
  promptText(): string
}

/** Makes the reader of one route's bodies. Compiled once: checking a body then takes about a microsecond. */
export function compileParser(route: ModelRoute) {
  const checker = Compile(route.schema)

  return function parseCall(
    body: Buffer,
    request: { id: string; sessionKey: string | null; headers: readonly string[] },
    limits: CallLimits,
  ): ParsedCall {
    const fields = parseBody(body, limits.jsonDepthMax)
    if (!checker.Check(fields)) throw describeProblem(checker.Errors(fields), fields)
    const stream = route.streams && fields['stream'] === true
    return new BodyCall({ route, body, fields, stream, ...request })
  }
}

class BodyCall implements ParsedCall {
  readonly id: string
  readonly path: string
  readonly model: string
  readonly stream: boolean
  readonly headers: readonly string[]
  readonly sessionKey: string | null
  readonly hidesUsage: boolean
  readonly serviceTier: ServiceTier | null
  ask: Ask = plainAsk
  readonly #route: ModelRoute
  readonly #fields: Fields
  readonly #body: Buffer
  #blocks: readonly number[] | null = null

  constructor(parts: {
    route: ModelRoute
    body: Buffer
    fields: Fields
    stream: boolean
    id: string
    sessionKey: string | null
    headers: readonly string[]
  }) {
    const { fields } = parts
    this.id = parts.id
    this.path = parts.route.path
    this.model = fields['model'] as string
    this.stream = parts.stream
    this.headers = parts.headers
    this.sessionKey = parts.sessionKey ?? (typeof fields['user'] === 'string' ? fields['user'] : null)
    this.serviceTier = readServiceTier(fields['service_tier'])
    const options = fields['stream_options'] as { include_usage?: boolean } | null | undefined
    this.hidesUsage = parts.stream && options?.include_usage !== true
    this.#route = parts.route
    this.#fields = fields
    this.#body = this.hidesUsage ? askUsage(parts.body, fields) : parts.body
  }

  bodyFor(upstreamModel: string): Buffer {
    return upstreamModel === this.model ? this.#body : replaceModel(this.#body, upstreamModel)
  }

  prefixBlocks(): readonly number[] {
    const field = this.#route.promptField
    this.#blocks ??= field === null ? [] : hashPrefixBlocks(this.#body, field)
    return this.#blocks
  }

  get promptTokens(): number {
    return Math.ceil(this.#body.length / charsPerToken)
  }

  estimateAnswerTokens(): number {
    return this.#route.streams ? estimateAnswerTokens(this.#fields) : 0
  }

  cacheFields(): Fields {
    return this.#fields
  }

  promptText(): string {
    const { messages, prompt, input } = this.#fields
    return JSON.stringify(messages ?? prompt ?? input).slice(0, promptCharsMax)
  }
}

/** OpenAI's `auto` leaves it to the tenant. */
export const readServiceTier = (given: unknown): ServiceTier | null =>
  given === 'priority' || given === 'default' || given === 'flex' ? given : null

/** The first thing wrong with a body, as an error that names the field, what it is and what is allowed. */
export function describeProblem(problems: readonly SchemaProblem[], fields: Fields) {
  const [first] = problems
  if (!first) return fail('invalid_request')
  if (first.keyword === 'required') {
    const [name] = first.params['requiredProperties'] as string[]
    const param = toParam(`${first.instancePath}/${name}`)
    return fail('invalid_request', { message: `\`${param}\` is missing.`, param })
  }
  const param = toParam(first.instancePath)
  const wanted = problems
    .filter(({ instancePath, keyword }) => instancePath === first.instancePath && keyword !== 'anyOf')
    .map(describeWanted)
  const value = readPointer(fields, first.instancePath)
  const found = first.keyword === 'enum' ? quoteShort(value) : describeKind(value)
  const verb = first.message.startsWith('must be ') ? 'must be' : 'must'
  return fail('invalid_request', {
    message: `\`${param}\` ${verb} ${wanted.join(' or ')}; it is ${found}.`,
    param,
  })
}

type SchemaProblem = {
  keyword: string
  instancePath: string
  message: string
  params: Record<string, unknown>
}

/** The validator says only that a value must be one of those allowed: here they are named. */
function describeWanted({ keyword, message, params }: SchemaProblem): string {
  const allowed = keyword === 'enum' ? (params['allowedValues'] as readonly string[]) : null
  return allowed ? `one of ${allowed.join(', ')}` : message.replace(/^must (be )?/, '')
}

/** Texts that are short enough to be a slip, as they are; of all else the kind. */
function quoteShort(value: unknown): string {
  return typeof value === 'string' && value !== '' && value.length <= 40
    ? JSON.stringify(value)
    : describeKind(value)
}

function describeKind(value: unknown): string {
  if (value === null) return 'null'
  if (Array.isArray(value)) return value.length === 0 ? 'an empty array' : 'an array'
  if (typeof value === 'object') return 'an object'
  if (value === '') return 'an empty string'
  return typeof value === 'string' ? 'a string' : String(value)
}

/** `/messages/0/role` -> `messages[0].role` */
function toParam(pointer: string): string {
  return (
    pointer
      .replaceAll(/\/(\d+)(?=\/|$)/g, '[$1]')
      .replaceAll('/', '.')
      .replace(/^\./, '') || 'body'
  )
}

function readPointer(value: unknown, pointer: string): unknown {
  let at = value
  for (const key of pointer.split('/').slice(1)) at = (at as Fields | undefined)?.[key]
  return at
}
