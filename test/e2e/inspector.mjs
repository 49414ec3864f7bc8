// Somebody who uses MCP Inspector in Chromium: connects to a server, logs in where that leads to, and calls a tool.
//
//     LOGIN=alice node inspector.mjs <the URL that Inspector prints> http://127.0.0.1:8080/mcp 'Who am I?'
//
// The tool goes by its title. Prints the text of the page that shows the result, as JSON.
import { withTab } from './chromium.mjs';

const [inspector, gateway, tool] = process.argv.slice(2);

const seen = await withTab(async (tab) => {
  const address = new URL(inspector);
  address.searchParams.set('transport', 'streamable-http');
  address.searchParams.set('serverUrl', gateway);
  const connect = async () => {
    await tab.goto(address.href);
    await tab.getByRole('button', { name: 'Connect', exact: true }).click();
  };
  await connect();
  // the pages of the OAuth server
  await tab.locator('input[name=login]').fill(process.env.LOGIN);
  await tab.locator('input[name=password]').fill('any');
  await tab.locator('button[type=submit]').click();
  await tab.locator('input[name=prompt][value=consent]').waitFor({ state: 'attached' });
  await tab.locator('button[type=submit]').click();
  // and back. Where Inspector keeps its tokens it forgets at which port its proxy listens, which is in the first URL.
  await tab.waitForURL(({ origin, pathname }) => origin === address.origin && pathname === '/');
  await connect();
  await tab.getByText('Connected', { exact: true }).waitFor();
  await tab.getByRole('tab', { name: 'Tools' }).click();
  await tab.getByRole('button', { name: 'List Tools' }).click();
  await tab.getByText(tool, { exact: true }).first().click();
  await tab.getByRole('button', { name: 'Run Tool' }).click();
  await tab.getByText('Tool Result:').waitFor();
  return { text: await tab.locator('body').innerText() };
});
console.log(`seen ${JSON.stringify(seen)}`);
