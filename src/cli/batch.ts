import type { Command } from 'commander'
import type { BatchOptions } from './batch-run.ts'
import { commandName } from '../core/command-name.ts'
import { urlFlag } from './options.ts'

const help = `
FILE holds one request a line, as OpenAI's batches do:
  {"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"tiny","messages":[…]}}

Results go to FILE.output.jsonl and failed lines to FILE.errors.jsonl. The batch runs at the server: Ctrl-C leaves it
alone, and the same command picks it up again, also after a restart of either side.

  ${commandName} batch requests.jsonl
  ${commandName} batch requests.jsonl --model llama --output results.jsonl
`

/** Adds `batch`. `onResult` is given its exit code. */
export function addBatchCommand(program: Command, onResult: (code: number) => void): void {
  program
    .command('batch <file>')
    .description('run a file of requests as a batch, and fetch the results')
    .option(...urlFlag)
    .option('--output <file>', 'where the results go (default: beside FILE)')
    .option('--model <name>', 'model to ask in every line')
    .option('--endpoint <path>', 'route of the requests (default: the url of the first line)')
    .option('--cancel', 'end the batch that is under way, and fetch what is done')
    .addHelpText('after', help)
    .action(async (file: string, options: BatchOptions) =>
      onResult(await (await import('./batch-run.ts')).runBatch(file, options)),
    )
}
