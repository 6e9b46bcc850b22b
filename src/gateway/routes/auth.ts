import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { fail } from '../../core/errors.ts'
import { parseBody } from '../../router/calls/body.ts'
import type { AccessParts } from '../auth/access-parts.ts'
import { permissions } from '../../config/schema.ts'
import type { Permission } from '../auth/caller.ts'
import { readCredential } from '../auth/credential.ts'
import { readRoles } from '../auth/key-request.ts'
import { isKeyText } from '../auth/key-text.ts'
import { refuseStrangers } from '../read-settings.ts'
import { ErrorReply } from '../schemas.ts'
import { refuseOthers, type Query } from '../task-query.ts'

export type AuthParts = {
  access: Pick<AccessParts, 'tokens' | 'tokenKeys' | 'required'>
  settings: () => { jsonDepthMax: number }
}

/** Half of the time that a key is published before it signs. */
const keysMaxAgeSeconds = 300

const TokenRequest = Type.Object({
  roles: Type.Optional(
    Type.Array(Type.Enum([...permissions]), { description: 'Some of the roles of the key; without it all.' }),
  ),
  expires_in: Type.Optional(
    Type.Integer({ minimum: 1, description: 'Seconds; no more than `auth.tokenTtlMs`.' }),
  ),
})
const TokenReply = Type.Object({
  access_token: Type.String(),
  token_type: Type.Literal('Bearer'),
  expires_in: Type.Integer({ description: 'Seconds' }),
  scope: Type.String({ description: 'The roles, as words.' }),
  tenant: Type.String(),
})

/** The issuer for those who have none: short-lived tokens from keys, and the public keys to verify them with. */
export function addAuthRoutes(app: FastifyInstance, parts: AuthParts): void {
  const { tokens, tokenKeys, required } = parts.access

  const exchange = {
    tags: ['authentication'],
    summary: 'A short-lived token from the key that is shown',
    body: Type.Optional(TokenRequest),
    response: { 200: TokenReply, '4xx': ErrorReply, '5xx': ErrorReply },
  }
  app.post('/auth/token', { schema: exchange }, async (request, reply) => {
    if (!required) {
      throw fail('invalid_request', { message: 'Authentication is off here: no token is needed.' })
    }
    const wanted = readWanted(request, parts)
    const { keyId } = request.record.caller
    // A token that made tokens would never end.
    if (keyId === null || !isKeyText(readCredential(request.headers))) {
      throw fail('forbidden', { message: 'A token is made from a key: show the key itself.' })
    }
    const { token, expiresInMs, roles, tenant } = await tokens.issue(keyId, wanted)
    void reply.header('cache-control', 'no-store')
    return {
      access_token: token,
      token_type: 'Bearer',
      expires_in: expiresInMs / 1_000,
      scope: roles.join(' '),
      tenant,
    }
  })

  const publish = {
    tags: ['authentication'],
    summary: "The public keys of this server's own tokens (JWKS)",
    response: {
      200: Type.Object({ keys: Type.Array(Type.Object({}, { additionalProperties: true })) }),
    },
  }
  app.get('/.well-known/jwks.json', { schema: publish, exposeHeadRoute: false }, (_request, reply) => {
    void reply.header('cache-control', `public, max-age=${keysMaxAgeSeconds}`)
    return { keys: tokenKeys.published }
  })
}

function readWanted(
  request: FastifyRequest,
  { settings }: AuthParts,
): { roles: readonly Permission[] | null; ttlMs: number | null } {
  refuseOthers(request.query as Query, [])
  const body = request.body as Buffer | undefined
  if (!body || body.length === 0) return { roles: null, ttlMs: null }
  const fields = parseBody(body, settings().jsonDepthMax)
  refuseStrangers(fields, Object.keys(TokenRequest.properties))
  const seconds = fields['expires_in'] ?? null
  if (seconds !== null && !(Number.isSafeInteger(seconds) && (seconds as number) >= 1)) {
    const message = '`expires_in` must be a whole number of seconds from 1.'
    throw fail('invalid_request', { message, param: 'expires_in' })
  }
  return {
    roles: readRoles(fields['roles']),
    ttlMs: seconds === null ? null : (seconds as number) * 1_000,
  }
}
