import { hash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import { ownIssuer } from '../../config/schema.ts'
import { LruMap } from '../../core/bounded.ts'
import type { Clock } from '../../core/clock.ts'
import { ApiError, fail } from '../../core/errors.ts'
import { StoreUnavailable } from '../../storage/store.ts'
import type { AccessWatch } from './access-watch.ts'
import type { Caller, Gate, Shown } from './caller.ts'
import { readCredential } from './credential.ts'
import type { KeyJudge } from './key-judge.ts'
import { isKeyText } from './key-text.ts'
import { readTenantHeader, tenantHeader } from './open-gate.ts'
import { badCredential, missingPermission } from './refusal.ts'
import type { TokenJudge } from './token-judge.ts'
import type { Verified } from './verified.ts'

const knownMax = 10_000
const refusedMax = 10_000
/** How long a bad credential is refused without another look: it may have been read too early. */
const refusedForMs = 5_000
/** Credentials that are looked at at once; a flood of new ones must not fill the memory. */
const underWayMax = 1_000
const storageRetryAfterMs = 2_000

export type AuthGateParts = { keys: KeyJudge; tokens: TokenJudge; watch: AccessWatch; clock: Clock }

/**
 * Lets in who shows a good key or token. What was found out is kept under the SHA-256 of the whole credential, so that
 * only the first request of each waits for anything; a key that changes takes all that came from it out of there.
 */
export class AuthGate implements Gate {
  readonly #keys: KeyJudge
  readonly #tokens: TokenJudge
  readonly #watch: AccessWatch
  readonly #clock: Clock
  readonly #known = new LruMap<string, Verified>(knownMax)
  readonly #refused = new LruMap<string, { error: ApiError; untilMs: number }>(refusedMax)
  readonly #underWay = new Map<string, Promise<Caller>>()
  /** What each connection showed last: nearly always it shows that again, and it need not be hashed again. */
  readonly #shown = new WeakMap<Socket, { credential: string; digest: string }>()
  #issuerEpoch = 0

  constructor({ keys, tokens, watch, clock }: AuthGateParts) {
    this.#keys = keys
    this.#tokens = tokens
    this.#watch = watch
    this.#clock = clock
    watch.listen({
      keys: (ids) => this.#forgetKeys(ids),
      secrets: () => Promise.resolve(this.forgetIssuer(ownIssuer)),
    })
  }

  identify({ headers, socket }: Shown): Caller | Promise<Caller> {
    const credential = readCredential(headers)
    const digest = this.#digest(credential, socket)
    const known = this.#known.get(digest)
    if (known !== undefined && known.expiresAtMs > this.#clock.wallMs()) {
      return headers[tenantHeader] === undefined ? known.caller : actFor(known.caller, headers)
    }
    const caller = this.#lookUp(credential, digest)
    return headers[tenantHeader] === undefined ? caller : caller.then((found) => actFor(found, headers))
  }

  /** The keys of an issuer have changed: its tokens are verified again. */
  forgetIssuer(issuer: string): void {
    this.#issuerEpoch += 1
    this.#known.deleteWhere((verified) => verified.issuer === issuer)
    this.#refused.clear()
    this.#underWay.clear()
  }

  #digest(credential: string, socket: Socket | undefined): string {
    const shown = socket && this.#shown.get(socket)
    if (shown?.credential === credential) return shown.digest
    const digest = hash('sha256', credential, 'base64')
    if (socket) this.#shown.set(socket, { credential, digest })
    return digest
  }

  #forgetKeys(ids: ReadonlySet<string> | null): void {
    if (ids === null) this.#known.clear()
    else this.#known.deleteWhere(({ caller }) => caller.keyId !== null && ids.has(caller.keyId))
    this.#refused.clear()
    // What is being looked up may have been read before: whoever comes now looks for themselves.
    this.#underWay.clear()
  }

  /** One look for all who show the same credential at the same time. */
  #lookUp(credential: string, digest: string): Promise<Caller> {
    const refused = this.#refused.get(digest)
    if (refused !== undefined && refused.untilMs > this.#clock.now()) throw refused.error
    const underWay = this.#underWay.get(digest)
    if (underWay) return underWay
    if (this.#underWay.size >= underWayMax) throw fail('overloaded', { retryAfterMs: 1_000 })
    const look = this.#judge(credential, digest).finally(() => {
      if (this.#underWay.get(digest) === look) this.#underWay.delete(digest)
    })
    this.#underWay.set(digest, look)
    return look
  }

  async #judge(credential: string, digest: string): Promise<Caller> {
    const { epoch } = this.#watch
    const issuerEpoch = this.#issuerEpoch
    // What was read before a change must not outlive it, be it good or bad.
    const isCurrent = () => epoch === this.#watch.epoch && issuerEpoch === this.#issuerEpoch
    try {
      const verified = await (isKeyText(credential)
        ? this.#keys.judge(credential)
        : this.#tokens.judge(credential))
      if (verified.expiresAtMs <= this.#clock.wallMs()) throw badCredential('The token has expired.')
      if (isCurrent()) this.#known.set(digest, verified)
      return verified.caller
    } catch (error) {
      if (error instanceof StoreUnavailable) {
        throw fail('storage_unavailable', { retryAfterMs: storageRetryAfterMs, cause: error })
      }
      if (error instanceof ApiError && error.code === 'unauthorized') {
        this.#known.delete(digest)
        if (isCurrent()) this.#refused.set(digest, { error, untilMs: this.#clock.now() + refusedForMs })
      }
      throw error
    }
  }
}

/** Who manages tenants may act for each of them; to name another than one's own is a mistake for anyone else. */
function actFor(caller: Caller, headers: IncomingMessage['headers']): Caller {
  const tenant = readTenantHeader({ headers })
  if (tenant === null || tenant === caller.tenant) return caller
  if (caller.roles.has('admin')) return { ...caller, tenant }
  throw missingPermission('Only a key or token with the permission `admin` may act for another tenant.', [
    'admin',
  ])
}
