import { plainAsk, type Ask, type Call } from '../call.ts'
import { replaceModel, type Fields } from '../calls/body.ts'
import { charsPerToken, estimateAnswerTokens } from '../calls/token-estimate.ts'
import { hashPrefixBlocks } from '../policies/prefix-blocks.ts'

/** A chat completion that this program asks for itself, as the router takes calls. */
export class ChatCall implements Call {
  readonly id: string
  readonly path = '/chat/completions'
  readonly model: string
  readonly stream: boolean
  readonly headers: readonly string[]
  readonly sessionKey: string | null
  ask: Ask = plainAsk
  readonly #body: Buffer
  /** The longest answer that the body asks for. */
  readonly answerTokens: number
  #blocks: readonly number[] | null = null

  constructor(parts: { id: string; body: Fields; sessionKey: string | null; headers: readonly string[] }) {
    this.id = parts.id
    this.model = parts.body['model'] as string
    this.stream = parts.body['stream'] === true
    this.headers = parts.headers
    this.sessionKey = parts.sessionKey
    this.#body = Buffer.from(JSON.stringify(parts.body))
    this.answerTokens = estimateAnswerTokens(parts.body)
  }

  /** By its length. */
  get promptTokens(): number {
    return Math.ceil(this.#body.length / charsPerToken)
  }

  bodyFor(upstreamModel: string): Buffer {
    return upstreamModel === this.model ? this.#body : replaceModel(this.#body, upstreamModel)
  }

  prefixBlocks(): readonly number[] {
    this.#blocks ??= hashPrefixBlocks(this.#body, 'messages')
    return this.#blocks
  }
}
