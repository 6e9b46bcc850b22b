import { X509Certificate } from 'node:crypto'
import { createSecureContext, type SecureContextOptions } from 'node:tls'
import { readFile } from 'node:fs/promises'
import type { Config } from '../config/schema.ts'
import type { Clock } from '../core/clock.ts'
import { SetupError } from '../core/errors.ts'
import type { Logger } from '../telemetry/log.ts'

export type TlsSettings = Config['server']['tls']

/** Certificates are renewed by other programs, which tell nobody: their files are looked at this often. */
const lookMs = 5_000

/** What the listening socket needs; throws SetupError that names the file at fault. */
export async function readTlsFiles(settings: TlsSettings): Promise<SecureContextOptions> {
  const { certFile, keyFile, clientCaFile } = settings
  const [cert, key, ca] = await Promise.all([
    read('server.tls.certFile', certFile),
    read('server.tls.keyFile', keyFile),
    clientCaFile === '' ? undefined : read('server.tls.clientCaFile', clientCaFile),
  ])
  if (ca !== undefined) requireCertificate(ca, clientCaFile)
  const options = { cert, key, ...(ca ? { ca } : {}), minVersion: 'TLSv1.2' } as const
  try {
    createSecureContext(options)
  } catch (error) {
    const reason = (error as { reason?: string }).reason ?? (error as Error).message
    throw new SetupError(
      `The certificate ${certFile} and the key ${keyFile} can't be used together (${reason}). ` +
        'Both must be PEM, and the key must be that of the first certificate.',
    )
  }
  return options
}

/** An authority that can't be read would be left out without a word, and everybody refused. */
function requireCertificate(ca: string, file: string): void {
  try {
    new X509Certificate(ca)
  } catch {
    throw new SetupError(`server.tls.clientCaFile: ${file} holds no certificate in PEM.`)
  }
}

/**
 * Calls `onChange` with new files when their contents have changed and go together; what does not is told once and
 * the old ones stay. The returned function ends it.
 */
export function watchTlsFiles(
  settings: TlsSettings,
  first: SecureContextOptions,
  parts: { clock: Clock; log: Logger; onChange: (options: SecureContextOptions) => void },
): () => void {
  const { clock, log, onChange } = parts
  let current = describe(first)
  let told = ''
  let isLooking = false
  const look = async () => {
    try {
      const next = await readTlsFiles(settings)
      told = ''
      if (describe(next) === current) return
      current = describe(next)
      onChange(next)
      log.info({ certFile: settings.certFile }, 'certificate read again')
    } catch (error) {
      const { message } = error as Error
      if (message !== told)
        log.warn({ problem: message }, 'the new certificate is refused, the old one stays')
      told = message
    }
  }
  return clock.every(lookMs, () => {
    if (isLooking) return
    isLooking = true
    void look().finally(() => {
      isLooking = false
    })
  })
}

const describe = ({ cert, key, ca }: SecureContextOptions): string => [cert, key, ca].map(String).join('\n')

async function read(name: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw new SetupError(`${name}: ${path} can't be read (${code}).`)
  }
}
