import type { Config } from '../../config/schema.ts'
import { SetupError } from '../../core/errors.ts'

/** Of `webhooks` in the configuration, with the secrets read. */
export type WebhookSettings = {
  /** What messages are signed with; none where webhooks are refused. */
  secrets: readonly Buffer[]
  allowPrivate: boolean
  timeoutMs: number
  attemptsMax: number
}

/** Reads the secrets from the environment. Throws SetupError, which never shows them. */
export function readWebhookSettings(
  config: Config['webhooks'],
  env: Readonly<Record<string, string | undefined>>,
): WebhookSettings {
  const { secretEnv, allowPrivate, timeoutMs, attemptsMax } = config
  const secrets = secretEnv === '' ? [] : readSecrets(env[secretEnv] ?? '', secretEnv)
  return { secrets, allowPrivate, timeoutMs, attemptsMax }
}

/** Several secrets, with spaces between them, sign every message each: so receivers can change theirs in their own time. */
function readSecrets(text: string, name: string): Buffer[] {
  const words = text.split(/\s+/).filter((word) => word !== '')
  if (words.length === 0) {
    throw new SetupError(
      `webhooks.secretEnv names ${name}, which is not set: it must hold \`whsec_\` and base64.`,
    )
  }
  return words.map((word) => {
    const encoded = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(word)?.[1]
    const secret = encoded === undefined ? null : Buffer.from(encoded, 'base64')
    // The sizes are those of the specification: https://github.com/standard-webhooks/standard-webhooks
    if (secret !== null && secret.length >= 24 && secret.length <= 64) return secret
    throw new SetupError(
      `${name} (webhooks.secretEnv) must hold \`whsec_\` and the base64 of 24 to 64 random bytes; ` +
        'make one with: echo "whsec_$(openssl rand -base64 32)"',
    )
  })
}
