import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** For `skip` of a suite: false with `openssl` at hand, else the reason. In CI one that is not there is a failure. */
export function opensslSkip(): false | string {
  if (spawnSync('openssl', ['version']).status === 0) return false
  if (process.env['CI'] === 'true') throw new Error('openssl is needed and is not on the PATH')
  return 'openssl is not on the PATH: certificates can not be made'
}

export type Pair = { cert: string; key: string }

/** A folder of certificates made by `openssl`, each with the name of a file. */
export class Certificates implements AsyncDisposable {
  readonly folder: string

  private constructor(folder: string) {
    this.folder = folder
  }

  static async make(): Promise<Certificates> {
    return new Certificates(await mkdtemp(join(tmpdir(), 'autoglm-tls-')))
  }

  path(name: string): string {
    return join(this.folder, name)
  }

  read(name: string): string {
    return readFileSync(this.path(name), 'utf8')
  }

  /** One that vouches for itself, for `localhost` and for others that it signs. */
  makeOwn(name: string): Pair {
    const files = { cert: `${name}.crt`, key: `${name}.key` }
    this.#run(
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2'],
      ...['-subj', `/CN=${name}`, '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1'],
      ...['-keyout', this.path(files.key), '-out', this.path(files.cert)],
    )
    return { cert: this.read(files.cert), key: this.read(files.key) }
  }

  /** One that another vouches for. */
  makeSigned(name: string, by: string): Pair {
    this.#run(
      ...['req', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', `/CN=${name}`],
      ...['-keyout', this.path(`${name}.key`), '-out', this.path(`${name}.csr`)],
    )
    this.#run(
      ...['x509', '-req', '-days', '2', '-in', this.path(`${name}.csr`), '-out', this.path(`${name}.crt`)],
      ...['-CA', this.path(`${by}.crt`), '-CAkey', this.path(`${by}.key`), '-CAcreateserial'],
    )
    return { cert: this.read(`${name}.crt`), key: this.read(`${name}.key`) }
  }

  async write(name: string, text: string): Promise<void> {
    await writeFile(this.path(name), text)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.folder, { recursive: true, force: true })
  }

  #run(...args: string[]): void {
    execFileSync('openssl', args, { stdio: 'pipe' })
  }
}
