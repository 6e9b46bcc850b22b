import { isIP } from 'node:net'
import { fail } from '../../core/errors.ts'
import { isPublicAddress } from './address.ts'
import type { WebhookSettings } from './settings.ts'

/** Gives the addresses of a host name. */
export type Resolve = (host: string) => Promise<readonly string[]>

/** Where a message goes: the URL, and the addresses that were judged and are the only ones it may go to. */
export type Target = { url: URL; addresses: readonly string[] }

type Rules = Pick<WebhookSettings, 'secrets' | 'allowPrivate'>

/**
 * Refuses a target that will never do, when it is submitted. What its name resolves to is judged at each delivery,
 * for it may be another address by then. Throws invalid_request for `webhook.url`.
 */
export function checkWebhookUrl(url: string, rules: Rules): void {
  const problem =
    rules.secrets.length === 0
      ? 'is refused: this server has no secret to sign webhooks with (`webhooks.secretEnv`)'
      : findProblem(URL.parse(url), rules)
  if (problem !== null) {
    throw fail('invalid_request', { message: `\`webhook.url\` ${problem}.`, param: 'webhook.url' })
  }
}

/** A target that policy forbids: no further attempt can mend that. */
export class TargetRefused extends Error {
  override readonly name = 'TargetRefused'
}

/**
 * Resolves the host once and judges every address. The connection is made to these and no others: a name that gives
 * another address a moment later gains nothing. Throws TargetRefused.
 */
export async function resolveTarget(text: string, rules: Rules, resolve: Resolve): Promise<Target> {
  const url = URL.parse(text)
  const problem = findProblem(url, rules)
  if (url === null || problem !== null) throw new TargetRefused(`the URL ${problem}`)
  const host = toHost(url)
  const addresses = isIP(host) === 0 ? await resolve(host) : [host]
  if (addresses.length === 0) throw new Error('the host has no address')
  const refused = rules.allowPrivate ? undefined : addresses.find((address) => !isPublicAddress(address))
  if (refused !== undefined) {
    throw new TargetRefused('the host resolves to an address that is not one of the public internet')
  }
  return { url, addresses }
}

function findProblem(url: URL | null, { allowPrivate }: Rules): string | null {
  if (url === null) return 'is not a URL'
  if (url.protocol !== 'https:' && !(allowPrivate && url.protocol === 'http:')) {
    return allowPrivate ? 'must begin with https:// or http://' : 'must begin with https://'
  }
  if (url.username !== '' || url.password !== '') return 'must hold no credentials'
  if (allowPrivate) return null
  const host = toHost(url)
  const isLocal = /(^|\.)localhost\.?$/.test(host) || (isIP(host) !== 0 && !isPublicAddress(host))
  return isLocal ? 'must lead to the public internet (`webhooks.allowPrivate` lifts that)' : null
}

/** The host as a resolver takes it: without the brackets of an IPv6 address. */
function toHost(url: URL): string {
  return url.hostname.replace(/^\[(.*)\]$/, '$1')
}
