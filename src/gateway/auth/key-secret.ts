import { randomBytes } from 'node:crypto'
import { SetupError } from '../../core/errors.ts'
import type { AccessStore } from '../../storage/access-store.ts'

const secretBytesMin = 32

/**
 * The secret under which keys are hashed: the one of `auth.keySecretEnv`, else one that is made when it is first asked
 * for and kept in the storage, so that all servers of it have the same.
 */
export async function readKeySecret(
  access: AccessStore,
  { keySecretEnv }: { keySecretEnv: string },
  { env, nowMs }: { env: NodeJS.ProcessEnv; nowMs: number },
): Promise<string> {
  if (keySecretEnv !== '') {
    const secret = env[keySecretEnv] ?? ''
    if (Buffer.byteLength(secret) >= secretBytesMin) return secret
    throw new SetupError(
      `auth.keySecretEnv: the variable it names must hold ${secretBytesMin} bytes or more; make one with: openssl rand -hex 32`,
    )
  }
  for (;;) {
    const [stored] = await access.listSecrets('key-hash')
    if (stored) return stored.secret
    // Another server may be faster: then its secret counts.
    await access.insertSecret({
      ...{ kind: 'key-hash', number: 1, id: 'key-hash-1', algorithm: 'HS256' },
      secret: randomBytes(secretBytesMin).toString('base64url'),
      createdAtMs: nowMs,
    })
  }
}
