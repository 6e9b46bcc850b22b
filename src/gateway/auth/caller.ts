import type { IncomingMessage } from 'node:http'
import type { LimitSettings, permissions } from '../../config/schema.ts'

export type Permission = (typeof permissions)[number]

/** Who asks, and for whom: read off a key or a token once a request. */
export type Caller = {
  readonly tenant: string
  /** The key that was shown, or that the token was made from; null for the tokens of others and without authentication. */
  readonly keyId: string | null
  /** For the log: the key's id, or issuer and subject of a token. */
  readonly name: string | null
  readonly roles: ReadonlySet<Permission>
  /** Limits of the key or token itself, beside those of its tenant. */
  readonly limits: LimitSettings | null
}

/** What is looked at of a request: its headers, and on which connection it came. */
export type Shown = Pick<IncomingMessage, 'headers'> & Partial<Pick<IncomingMessage, 'socket'>>

/** Finds out who asks. A promise only where the storage or an issuer has to be asked; throws unauthorized. */
export type Gate = {
  identify(request: Shown): Caller | Promise<Caller>
}

/** Before anybody is known. */
export const nobody: Caller = { tenant: '', keyId: null, name: null, roles: new Set(), limits: null }
