import { strict as assert } from 'node:assert'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { createDatabase } from '../helpers/postgres.ts'
import { serviceSkip } from '../helpers/services.ts'
import { Command, run } from './command.ts'

let cwd: string
before(() => {
  cwd = mkdtempSync(join(tmpdir(), 'autoglm-cli-'))
  writeFileSync(join(cwd, 'bad.yaml'), 'server:\n  port: 99999\nlog: {level: x}\n')
  writeFileSync(join(cwd, 'good.yaml'), 'models: [{name: a, source: tiny}]\nupstreams: [{name: u, url: "http://h", apiKeyEnv: K}]\n')
  writeFileSync(join(cwd, 'broken.gguf'), 'GGUF')
}) // prettier-ignore
after(() => rmSync(cwd, { recursive: true }))

/** A mistake of the person: its message on stderr, nothing else, exit code 1. */
async function fails(args: string[], message: RegExp, env: Record<string, string> = {}): Promise<void> {
  const { code, stdout, stderr } = await run(args, { cwd, env })
  assert.match(stderr, message)
  assert.equal(stdout, '')
  assert.equal(code, 1)
  assert.doesNotMatch(stderr, /^\s+at /m)
}

describe('the command line', () => {
  it('says its version and how it is used', async () => {
    const { code, stdout } = await run(['--version'], { cwd })
    assert.match(stdout, /^\d+\.\d+\.\d+\n$/)
    assert.equal(code, 0)
    const help = await run(['--help'], { cwd })
    for (const word of ['serve', 'chat', 'models', 'instance', 'validate', 'Examples:', 'AUTOGLM_SERVER_PORT', 'docs/configuration.md']) {
      assert.ok(help.stdout.includes(word), word)
    }
    const serve = await run(['serve', '--help'], { cwd })
    for (const flag of ['--config', '--port', '--host', '--data-dir', '--model', '--instances', '--upstream', '--policy', '--log-level', '--log-format']) {
      assert.ok(serve.stdout.includes(flag), flag)
    }
    assert.equal(serve.code, 0)
  }) // prettier-ignore

  it('refuses what it does not know, with the nearest that it does', async () => {
    await fails(['srve'], /^error: unknown command 'srve'\n\(Did you mean serve\?\)/)
    await fails(['serve', '--prot', '1'], /^error: unknown option '--prot'\n\(Did you mean --port\?\)/)
    await fails(['serve', 'x'], /^error: too many arguments/)
    await fails(['instance'], /^error: required option '--model <source>' not specified/)
  })

  it('is not troubled when nobody reads what it writes', async () => {
    const child = spawn(process.execPath, [new URL('../../src/main.ts', import.meta.url).pathname, 'validate', '--print'], { cwd })
    child.stdout.destroy()
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
    const [code] = (await once(child, 'close')) as [number]
    assert.equal(stderr, '')
    assert.equal(code, 0)
  }) // prettier-ignore
})

describe('autoglm worker', async () => {
  const skip = await serviceSkip('postgresql')

  it('works on when nobody reads its banner any more', { skip }, async () => {
    const database = await createDatabase()
    const file = join(cwd, 'worker.yaml')
    writeFileSync(file, 'upstreams: [{name: u, url: "http://127.0.0.1:9"}]\n')
    const worker = new Command(['worker', '--config', file, '--storage', database.url], { cwd })
    try {
      worker.child.stdout?.destroy()
      await worker.says(/instance is not well/)
      // It takes over a file only once it runs, and then the banner has been written.
      writeFileSync(file, 'log: {level: x}\n')
      await worker.says(/the new configuration is refused/)
    } finally {
      worker.kill('SIGTERM')
      await worker.exit()
      await database.drop()
    }
  })
})

describe('autoglm validate', () => {
  it('says what would run', async () => {
    const { code, stdout } = await run(['validate', '--config', 'good.yaml'], { cwd, env: { K: 's3cret' } })
    assert.equal(
      stdout,
      'good.yaml is valid\n' +
        '  model a: tiny on 1 local instance(s)\n' +
        '  upstream u: http://h/v1, models as it lists them\n' +
        '  routing: peak_ewma\n  listens on: http://127.0.0.1:8080\n',
    )
    assert.equal(code, 0)
    const none = await run(['validate'], { cwd })
    assert.match(
      none.stdout,
      /^no autoglm\.yaml here; the configuration is valid\n {2}model tiny: tiny on 2 /,
    )
  })

  it('prints what is in effect, without secrets', async () => {
    const options = { cwd, env: { K: 's3cret', AUTOGLM_SERVER_PORT: '9' } }
    const { code, stdout } = await run(['validate', '--config', 'good.yaml', '--print'], options)
    assert.match(stdout, /^ {2}port: 9$/m)
    assert.match(stdout, /^ {4}apiKeyEnv: K$/m)
    assert.ok(!stdout.includes('s3cret'))
    assert.equal(code, 0)
  })

  it('says all that is wrong', async () => {
    await fails(['validate', '--config', 'bad.yaml'], /^error: 2 mistakes in the configuration:\n {2}bad\.yaml:2:9 server\.port: 99999 is not allowed.*\n {2}bad\.yaml:3:14 log\.level: "x" is not allowed/)
    await fails(['validate', '--config', 'none.yaml'], /^error: none\.yaml is not there; check the path/)
    await fails(['validate', '--config', 'good.yaml', '--host', '0.0.0.0'], /^error: server\.host 0\.0\.0\.0 is reached from other machines[^]*auth\.required/, { K: 's3cret' })
    await fails(['validate', '--port', 'x'], /^error: --port x \(server\.port\) is not allowed/)
    await fails(['validate'], /^error: AUTOGLM_SERVER_PROT: unknown variable; did you mean AUTOGLM_SERVER_PORT\?\n$/, { AUTOGLM_SERVER_PROT: '1' })
  }) // prettier-ignore
})

describe('autoglm serve', () => {
  it('does not start with a mistake in its configuration', async () => {
    await fails(['serve', '--config', 'bad.yaml'], /^error: 2 mistakes in the configuration:/)
  })
  it('does not start without its model file, or with a broken one', async () => {
    await fails(['serve', '--model', 'no.gguf'], /^error: \/.*\/no\.gguf is not there; give the path of a GGUF file/)
    await fails(['serve', '--model', 'broken.gguf'], /^error: \/.*\/broken\.gguf is cut off after 4 bytes; fetch it again\n$/)
    await fails(['serve', '--model', 'hf:x'], /^error: "hf:x" is not a file of a hub; write hf:user\/repo:file\.gguf/)
  }) // prettier-ignore
  it('does not start on a port that is taken', async () => {
    const other = createServer()
    await once(other.listen(0, '127.0.0.1'), 'listening')
    const port = String((other.address() as AddressInfo).port)
    const args = ['serve', '--upstream', 'http://127.0.0.1:1', '--port', port, '--log-level', 'silent']
    await fails(args, new RegExp(`^error: .*${port}.*(in use|taken)`))
    other.close()
  })
})

describe('autoglm instance', () => {
  it('does not start without its model file', async () => {
    await fails(['instance', '--model', 'no.gguf'], /^error: \/.*\/no\.gguf is not there/)
  })
})
