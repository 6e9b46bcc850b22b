import type { Clock } from '../../core/clock.ts'
import { fail } from '../../core/errors.ts'
import type { Item } from '../../router/responses/items.ts'
import { identifyItems, type ResponseObject } from '../../router/responses/response.ts'
import type { Store } from '../../storage/store.ts'
import { askStore } from '../ask-store.ts'

/** A response with all that went into it: what is needed to show it, and to go on from it. */
export type StoredResponse = {
  response: ResponseObject
  /** The conversation in front of its own input; with ids. */
  context: readonly Item[]
  input: readonly Item[]
}

const responseKind = 'response'

/** A conversation that is longer is not gone on from: no model would read it. */
const storedCharsMax = 32 * 1024 * 1024
const writesMax = 3

/**
 * Finished responses, as documents. Each holds the whole conversation that led to it, so that it can be gone on from
 * when those before it have been deleted or have expired.
 */
export class StoredResponses {
  readonly #store: Pick<Store, 'documents'>
  readonly #clock: Clock
  readonly #keepMs: (tenant: string) => number

  constructor(parts: { store: Pick<Store, 'documents'>; clock: Clock; keepMs: (tenant: string) => number }) {
    this.#store = parts.store
    this.#clock = parts.clock
    this.#keepMs = parts.keepMs
  }

  /** Null when unknown, expired or another tenant's. Throws storage_unavailable. */
  async find(tenant: string, id: string): Promise<StoredResponse | null> {
    const document = await askStore(() => this.#store.documents.get(responseKind, tenant, id))
    if (!document || (document.expiresAtMs !== null && document.expiresAtMs <= this.#clock.wallMs()))
      return null
    return JSON.parse(document.data) as StoredResponse
  }

  /** Keeps a response, in place of what an earlier attempt at it has kept. Throws storage_unavailable. */
  async save(tenant: string, stored: StoredResponse): Promise<void> {
    const { documents } = this.#store
    const { id } = stored.response
    const nowMs = this.#clock.wallMs()
    const input = identifyItems(id, stored.input, stored.context)
    const data = JSON.stringify({ ...stored, input })
    const document = {
      kind: responseKind,
      id,
      tenant,
      expiresAtMs: nowMs + this.#keepMs(tenant),
      open: false,
      data,
    }
    for (let write = 0; write < writesMax; write += 1) {
      if (await askStore(() => documents.insert({ ...document, createdAtMs: nowMs }))) return
      const known = await askStore(() => documents.get(responseKind, tenant, id))
      if (known && (await askStore(() => documents.update({ ...document, version: known.version })))) return
    }
    throw fail('internal', { message: `The response ${id} could not be kept.` })
  }

  remove(tenant: string, id: string): Promise<boolean> {
    return askStore(() => this.#store.documents.remove(responseKind, tenant, id))
  }

  /** The conversation up to a response and with it; nothing for null. Throws response_not_found. */
  async conversation(tenant: string, previousResponseId: string | null): Promise<Item[]> {
    if (previousResponseId === null) return []
    const param = 'previous_response_id'
    const name = previousResponseId.slice(0, 100)
    const stored = await this.find(tenant, previousResponseId)
    if (!stored) {
      throw fail('response_not_found', {
        message: `There is no stored response \`${name}\` that has ended; \`${param}\` must name one.`,
        param,
      })
    }
    const { response, context, input } = stored
    if (response.status !== 'completed' && response.status !== 'incomplete') {
      throw fail('invalid_request', {
        message: `The response \`${name}\` is ${response.status}: there is nothing to go on from.`,
        param,
      })
    }
    const items = [...context, ...input, ...response.output]
    if (JSON.stringify(items).length > storedCharsMax) throw fail('context_length_exceeded', { param })
    return items
  }
}
